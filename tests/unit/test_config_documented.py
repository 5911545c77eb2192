"""What ships beside the code says what the code does: docs/configuration.md and config/config.yaml."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from fsm_miner.config import Config, format_duration, parse_config
from fsm_miner.config.plain import keys_of, section_of

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| `([a-z_.]+)` \| (.+?) \| (.+?) \| (.+) \|$", re.MULTILINE)
OWN = {
    "coordinator.base_url": "needed",
    "coordinator.auth_token": "needed",
    "runners.python.venv": "the daemon's own",
}


def leaves(model: type[BaseModel], above: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, field in keys_of(model).items():
        section = section_of(field)
        if section is not None:
            found |= leaves(section, f"{above}{key}.")
        else:
            found[above + key] = field.get_default(call_default_factory=True)
    return found


def written(value: Any) -> Any:
    """A default as docs and YAML write it."""
    if isinstance(value, tuple):
        return [written(item) for item in value]
    if hasattr(value, "total_seconds"):
        return format_duration(value).replace("1d", "24h") if value.days == 1 else format_duration(value)
    return value if value is None or isinstance(value, bool | int | float) else str(value)


def test_every_key_is_documented_once_with_its_default():
    text = (ROOT / "docs/configuration.md").read_text()
    rows = [(key, default) for key, kind, default, _ in ROW.findall(text) if kind != ":---"]
    keys = [key for key, default in rows if "." in key or key in Config.model_fields]
    defaults = leaves(Config)
    assert sorted(keys) == sorted(defaults)
    documented = dict(rows)
    for key, default in defaults.items():
        if key in OWN:
            assert documented[key] == OWN[key]
            continue
        said = (
            yaml.safe_load(documented[key].strip("`"))
            if ":" not in documented[key]
            else documented[key].strip("`")
        )
        assert said == (0 if key == "workspace.max_mb" else written(default)), key


@pytest.fixture
def shipped() -> str:
    return (ROOT / "config/config.yaml").read_text()


def test_the_shipped_configuration_is_the_defaults(shipped, tmp_path):
    machine = tmp_path / "machine-id"
    machine.write_text("0" * 32)
    config = parse_config(shipped, "config.yaml", Path("/etc/aitbc/miner"), machine)
    defaults = Config(coordinator=config.coordinator, node_id=config.node_id)
    assert config == defaults
    sections = leaves(type(config.coordinator))
    assert {key: getattr(config.coordinator, key) for key in sections if f"coordinator.{key}" not in OWN} == {
        key: value for key, value in sections.items() if f"coordinator.{key}" not in OWN
    }


def test_the_shipped_configuration_shows_every_key(shipped):
    data = yaml.safe_load(shipped.replace("# venv:", "venv:"))

    def flat(section: dict[str, Any], above: str = "") -> set[str]:
        found: set[str] = set()
        for key, value in section.items():
            found |= flat(value, f"{above}{key}.") if isinstance(value, dict) else {above + key}
        return found

    assert flat(data) == set(leaves(Config))
