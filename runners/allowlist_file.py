"""One allowlist file, read into a rule. Every problem is told with its line and with what to do."""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, cast

from runners.allowlist_pattern import Pattern, PatternProblem
from runners.allowlist_rule import (
    DEFAULT_MAX_OUTPUT_MB,
    DEFAULT_MAX_RUNTIME_S,
    DEFAULT_MAX_TOTAL_ARGS_LEN,
    Group,
    Rule,
    shown,
)
from runners.yaml_lines import LinePath, YamlProblem, line_of, load_yaml

__all__ = ["FILE_BYTES_MAX", "GROUPS_MAX", "TOKENS_MAX", "parse"]

FILE_BYTES_MAX = 65_536
"""The largest allowlist file, in bytes."""

GROUPS_MAX = 256
"""The most groups in one file."""

TOKENS_MAX = 1_024
"""The most patterns in one file, all groups together."""

_PROBLEMS_MAX = 20
_ENV_NAMES_MAX = 64

_KEYS = ("command", "args", "max_total_args_len", "max_runtime_s", "max_output_mb", "env")
_COMMAND_KEYS = ("path", "name")

# key: (smallest, default, largest)
_NUMBERS: Mapping[str, tuple[int, int, int]] = {
    "max_total_args_len": (0, DEFAULT_MAX_TOTAL_ARGS_LEN, 131_072),
    "max_runtime_s": (1, DEFAULT_MAX_RUNTIME_S, 30 * 86_400),
    "max_output_mb": (0, DEFAULT_MAX_OUTPUT_MB, 100_000_000),
}

# Plain, bounded expressions over text of ours; what a job sends never gets here.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,63}", re.ASCII)
_PATH = re.compile(r"(/[A-Za-z0-9_.+@-]{1,255}){1,32}", re.ASCII)
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}", re.ASCII)

# Variables by which a job would choose the code that runs instead of the command, or the devices it runs on.
_ENV_NEVER = frozenset(
    {
        "BASHOPTS", "CDPATH", "CUDA_VISIBLE_DEVICES", "ENV", "GCONV_PATH", "GLIBC_TUNABLES", "HOME",
        "HOSTALIASES", "IFS", "LOCPATH", "NLSPATH", "NVIDIA_VISIBLE_DEVICES", "PATH", "PROMPT_COMMAND", "PS4",
        "RESOLV_HOST_CONF", "SHELL", "SHELLOPTS", "TMPDIR",
    }
)  # fmt: skip
_ENV_NEVER_PREFIXES = (
    "BASH_",
    "GIT_",
    "JAVA_",
    "JDK_",
    "LD_",
    "MALLOC_",
    "NODE_",
    "PERL",
    "PYTHON",
    "RUBY",
    "_",
)


def parse(raw: bytes, file_name: str) -> Rule | tuple[str, ...]:
    """Read the text of one allowlist file.

    Args:
        raw: the file's bytes, whatever they are.
        file_name: what messages call it, and the rule's `source`; it is not opened.

    Returns:
        The rule; or, if anything is wrong, the problems, each `file:line: what: why`.

    """
    try:
        data, lines = load_yaml(raw, file_name, FILE_BYTES_MAX)
    except YamlProblem as problem:
        return (str(problem),)
    reading = _Reading(file_name, lines)
    rule = reading.rule(data)
    if reading.problems or rule is None:
        return tuple(reading.problems[:_PROBLEMS_MAX])
    return rule


@dataclass(slots=True)
class _Reading:
    """One call of `parse`: collects all problems instead of stopping at the first."""

    file_name: str
    lines: Mapping[LinePath, int]
    problems: list[str] = field(default_factory=list[str])

    def rule(self, data: Any) -> Rule | None:
        if not isinstance(data, dict):
            self._problem((), "the file must be a mapping that begins with `command:`")
            return None
        content = cast("dict[str, Any]", data)
        self._known_keys(content, _KEYS, ())
        path, name = self._command(content)
        groups = self._groups(content.get("args", []))
        numbers = {key: self._number(content, key) for key in _NUMBERS}
        env = self._env(content.get("env", []))
        return Rule(name=name, path=path, groups=groups, env=env, source=self.file_name, **numbers)

    def _problem(self, path: LinePath, message: str) -> None:
        where = "".join(f"[{part}]" if isinstance(part, int) else f".{_plain(part)}" for part in path).lstrip(
            "."
        )
        start = f"{self.file_name}:{line_of(self.lines, path)}: "
        self.problems.append(start + (f"{where}: " if where else "") + message)

    def _known_keys(self, found: dict[str, Any], known: tuple[str, ...], above: LinePath) -> None:
        for key in found:
            if key in known:
                continue
            near = difflib.get_close_matches(key[:80], known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known are: {', '.join(known)}"
            self._problem((*above, key), f"unknown key; {hint}")

    def _command(self, content: dict[str, Any]) -> tuple[str, str]:
        command = content.get("command")
        if not isinstance(command, dict):
            self._problem(("command",), "missing; write `command: {path: /usr/bin/...}`")
            return "", ""
        table = cast("dict[str, Any]", command)
        self._known_keys(table, _COMMAND_KEYS, ("command",))
        path = table.get("path")
        if not isinstance(path, str) or not _is_plain_path(path):
            self._problem(("command", "path"), "must be the program's absolute path, without `..`")
            return "", ""
        name = table.get("name", PurePosixPath(path).name)
        if not isinstance(name, str) or _NAME.fullmatch(name) is None:
            self._problem(
                ("command", "name"), "must be 1 to 64 of A-Z a-z 0-9 _ . + -, as in a manifest's `command`"
            )
            return path, ""
        return path, name

    def _groups(self, args: Any) -> tuple[Group, ...]:
        if not isinstance(args, list):
            self._problem(("args",), 'must be a list of groups, such as `- ["-i", "[a-z]+"]`')
            return ()
        groups = cast("list[Any]", args)
        if len(groups) > GROUPS_MAX:
            self._problem(("args",), f"{len(groups)} groups; at most {GROUPS_MAX} are allowed")
            return ()
        tokens = sum(len(cast("list[Any]", group)) for group in groups if isinstance(group, list))
        if tokens > TOKENS_MAX:
            self._problem(("args",), f"{tokens} patterns; at most {TOKENS_MAX} are allowed")
            return ()
        return tuple(self._group(group, index) for index, group in enumerate(groups))

    def _group(self, group: Any, index: int) -> Group:
        if not isinstance(group, list) or not group:
            self._problem(("args", index), 'must be a list of at least one pattern, such as `["-y"]`')
            return ()
        tokens = (
            self._token(token, ("args", index, at)) for at, token in enumerate(cast("list[Any]", group))
        )
        return tuple(token for token in tokens if token is not None)

    def _token(self, token: Any, path: LinePath) -> Pattern | None:
        if not isinstance(token, str):
            self._problem(path, "a pattern must be text; put it in quotes")
            return None
        try:
            return Pattern.compile(token)
        except PatternProblem as problem:
            self._problem(path, str(problem))
            return None

    def _number(self, content: dict[str, Any], key: str) -> int:
        smallest, default, largest = _NUMBERS[key]
        number = content.get(key, default)
        if not isinstance(number, int) or isinstance(number, bool) or not smallest <= number <= largest:
            self._problem((key,), f"must be a whole number from {smallest} to {largest}")
            return default
        return number

    def _env(self, names: Any) -> frozenset[str]:
        if not isinstance(names, list):
            self._problem(("env",), "must be a list of variable names, such as `[OMP_NUM_THREADS]`")
            return frozenset()
        listed = cast("list[Any]", names)
        if len(listed) > _ENV_NAMES_MAX:
            self._problem(("env",), f"{len(listed)} names; at most {_ENV_NAMES_MAX} are allowed")
            return frozenset()
        for index, name in enumerate(listed):
            if not isinstance(name, str) or _ENV_NAME.fullmatch(name) is None:
                self._problem(("env", index), "must be the name of an environment variable")
            elif name.upper() in _ENV_NEVER or name.upper().startswith(_ENV_NEVER_PREFIXES):
                self._problem(
                    ("env", index),
                    f"{shown(name)} decides which code or device is used, so no job may set it; remove it",
                )
        return frozenset(name for name in listed if isinstance(name, str))


def _plain(key: str) -> str:
    """Return a key as it is if it looks like one of ours, else quoted and shortened."""
    return key if _ENV_NAME.fullmatch(key) else shown(key)


def _is_plain_path(path: str) -> bool:
    """Say whether `path` is absolute and plain: no `.` or `..`, no empty part, no odd characters."""
    return _PATH.fullmatch(path) is not None and not {".", ".."} & set(path.split("/"))
