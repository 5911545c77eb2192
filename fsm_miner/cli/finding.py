"""What `fsm-miner check` found: one line each."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from fsm_miner.config.files import FileRefused, read_small_file
from fsm_miner.config.load import CONFIG_BYTES_MAX
from runners.yaml_lines import LinePath, YamlProblem, load_yaml

__all__ = ["Finding", "Level", "Lines", "ok", "placed", "problem", "warning"]

_PLACED = re.compile(r"(?P<file>/.+?):(?P<line>\d{1,9}): (?P<message>.*)", re.DOTALL)
_IN_FILE = re.compile(r"(?P<file>/[^:]+): (?P<message>.*)", re.DOTALL)


class Level(StrEnum):
    """How bad it is: nothing, worth knowing, or in the way."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was checked: where it stands (file, line from 1, dotted key of the configuration) and what is."""

    level: Level
    message: str
    key: str | None = None
    file: str | None = None
    line: int | None = None

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return ": ".join(part for part in (place, self.key, self.message) if part)

    def as_data(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "level": self.level.value,
            "file": self.file,
            "line": self.line,
            "key": self.key,
            "message": self.message,
        }


class Lines:
    """On which line of the configuration file each key stands."""

    def __init__(self, path: Path) -> None:
        self._file = str(path)
        self._lines: Mapping[LinePath, int] = {}
        try:
            content = read_small_file(path, CONFIG_BYTES_MAX).content
            _, self._lines = load_yaml(content, self._file, CONFIG_BYTES_MAX)
        except (FileRefused, YamlProblem):
            # Whoever loads the configuration says so; here it only means that no line is known.
            self._lines = {}

    def find(self, key: str) -> tuple[str, int] | tuple[None, None]:
        """Return (file, line) of a dotted key, or (None, None) if the file leaves it to the default."""
        line = self._lines.get(tuple(key.split(".")))
        return (None, None) if line is None else (self._file, line)


def ok(message: str, key: str | None = None) -> Finding:
    """Return a finding that is as it should be."""
    return Finding(Level.OK, message, key)


def warning(message: str, key: str | None, lines: Lines) -> Finding:
    """Return a finding that somebody should know of."""
    return Finding(Level.WARNING, message, key, *(lines.find(key) if key else (None, None)))


def problem(message: str, key: str | None, lines: Lines) -> Finding:
    """Return a finding that keeps the node, or some of its jobs, from working."""
    return Finding(Level.PROBLEM, message, key, *(lines.find(key) if key else (None, None)))


def placed(level: Level, text: str) -> Finding:
    """Return a finding from a sentence that begins with its place, `file:line: ` or `file: `."""
    match = _PLACED.fullmatch(text)
    if match is not None:
        return Finding(level, match["message"], None, match["file"], int(match["line"]))
    match = _IN_FILE.fullmatch(text)
    return Finding(level, text) if match is None else Finding(level, match["message"], None, match["file"])
