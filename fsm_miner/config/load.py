"""From a YAML file to a `Config`, or to the list of everything that is wrong with it."""

import hashlib
import hmac
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from fsm_miner.config.files import FileRefused, read_small_file
from fsm_miner.config.model import AUTO_NODE_ID, Config
from fsm_miner.config.plain import plain_problems
from fsm_miner.config.problem import ConfigError, Problem
from runners.yaml_lines import YamlProblem, line_of, load_yaml

__all__ = ["CONFIG_BYTES_MAX", "MACHINE_ID", "derive_node_id", "load_config", "parse_config"]

CONFIG_BYTES_MAX = 128 * 1024
MACHINE_ID = Path("/etc/machine-id")

# What section 4 of the specification prints where an id of one's own belongs: taken as "make one".
_PLACEHOLDER = "node-<shortid>"
_MACHINE_ID_BYTES_MAX = 4096


def load_config(path: Path, machine_id: Path = MACHINE_ID) -> Config:
    """Read and check the configuration file. Fetches no secret, opens nothing that the file names.

    Raises:
        ConfigError: everything that is wrong, each problem with its line.

    """
    try:
        found = read_small_file(path, CONFIG_BYTES_MAX)
    except FileRefused as error:
        hint = "; --config or $FSM_MINER_CONFIG names another" if error.missing else ""
        raise ConfigError([Problem(str(path), None, "", f"{error.reason}{hint}")]) from None
    return parse_config(found.content, str(path), path.absolute().parent, machine_id)


def parse_config(text: str | bytes, file: str, base: Path, machine_id: Path = MACHINE_ID) -> Config:
    """Check a configuration's text. `file` is its name in messages; relative paths in it start at `base`.

    Raises:
        ConfigError: everything that is wrong, each problem with its line.

    """
    try:
        data, lines = load_yaml(text, file, CONFIG_BYTES_MAX)
    except YamlProblem as error:
        raise ConfigError([Problem(file, error.line, "", error.message)]) from None
    if isinstance(data, dict):
        data = _with_own_id(cast("dict[str, Any]", data))
    try:
        config = Config.model_validate(data, context={"base": base})
    except ValidationError as error:
        raise ConfigError(plain_problems(error, Config, file, lines)) from None
    if config.node_id != AUTO_NODE_ID:
        return config
    try:
        return config.model_copy(update={"node_id": derive_node_id(machine_id)})
    except FileRefused as error:
        message = f"cannot be made from this machine's id: {error}; write an id of your own"
        raise ConfigError([Problem(file, line_of(lines, ("node_id",)), "node_id", message)]) from None


def _with_own_id(data: dict[str, Any]) -> dict[str, Any]:
    return data | {"node_id": AUTO_NODE_ID} if data.get("node_id") == _PLACEHOLDER else data


def derive_node_id(machine_id: Path = MACHINE_ID) -> str:
    """Make this machine's node id: `node-` and 8 hex digits that stay the same for as long as its id does.

    The machine's id itself must not be shown to others (machine-id(5)), so it is the key of a hash.

    Raises:
        FileRefused: there is no usable machine id.

    """
    content = read_small_file(machine_id, _MACHINE_ID_BYTES_MAX).content.strip()
    if len(content) < 32:
        raise FileRefused(f"{machine_id} holds no id; run systemd-machine-id-setup")
    return "node-" + hmac.new(content, b"fsm-miner node id", hashlib.sha256).hexdigest()[:8]
