"""The configuration: what it may say, reading it, and the secrets that it names."""

from fsm_miner.config.load import derive_node_id, load_config, parse_config
from fsm_miner.config.model import Config, warnings_of
from fsm_miner.config.problem import ConfigError, Problem
from fsm_miner.config.secret import Secret, SecretRef, resolve_secret
from fsm_miner.config.units import Listen, format_duration, parse_duration

__all__ = [
    "Config",
    "ConfigError",
    "Listen",
    "Problem",
    "Secret",
    "SecretRef",
    "derive_node_id",
    "format_duration",
    "load_config",
    "parse_config",
    "parse_duration",
    "resolve_secret",
    "warnings_of",
]
