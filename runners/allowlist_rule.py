r"""What one allowlist file allows: one command, and the arguments that it may get (specification, section 15).

A rule holds *groups*; a group is a row of patterns, each for one whole argument:

    groups      ["-y"]    ["-i", "NAME\.mp4"]    ["-c:v", "libx264"]    ["NAME\.mp4"]
    arguments    -y        -i    in.mp4           -c:v    libx264        out.mp4

An argument list is allowed if and only if it can be cut into pieces that each match a group, in any order
and any number of times. All cuts are tried at once, from left to right (dynamic programming), so the work is
bounded by arguments x tokens whatever the list looks like.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from runners.allowlist_pattern import Pattern

__all__ = [
    "ARGS_MAX",
    "DEFAULT_MAX_OUTPUT_MB",
    "DEFAULT_MAX_RUNTIME_S",
    "DEFAULT_MAX_TOTAL_ARGS_LEN",
    "Group",
    "Rule",
    "shown",
]

ARGS_MAX = 512
"""The most arguments that any rule takes."""

DEFAULT_MAX_TOTAL_ARGS_LEN = 4096
DEFAULT_MAX_RUNTIME_S = 3600
DEFAULT_MAX_OUTPUT_MB = 1000

_REASON_CHARS_MAX = 1_500
_ARG_SHOWN_CHARS_MAX = 60

Group = tuple[Pattern, ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """One command. `name` is what a manifest calls it; the exact absolute `path` will do as well.

    `max_total_args_len` is in bytes of UTF-8, all arguments together; `max_runtime_s` in seconds;
    `max_output_mb` in MiB. `env` names the environment variables a job may set for this command.
    `source` is the file the rule stands in.
    """

    name: str
    path: str
    groups: tuple[Group, ...] = ()
    max_total_args_len: int = DEFAULT_MAX_TOTAL_ARGS_LEN
    max_runtime_s: int = DEFAULT_MAX_RUNTIME_S
    max_output_mb: int = DEFAULT_MAX_OUTPUT_MB
    env: frozenset[str] = frozenset()
    source: str = ""

    def refuse_args(self, args: Sequence[str]) -> str | None:
        """Say why `args` are not allowed, to the one who wrote the job; None if they are."""
        encoded = self._encode(args)
        if isinstance(encoded, str):
            return encoded
        return _Cut(self.groups, encoded).refusal(self, args)

    def refuse_env(self, names: Iterable[str]) -> str | None:
        """Say which of the environment variables `names` is not allowed; None if all are."""
        wrong = sorted(name for name in names if name not in self.env)
        if not wrong:
            return None
        allowed = ", ".join(sorted(self.env)) or "none"
        return f"env: {shown(wrong[0])} may not be set for {self.name}; this node allows: {allowed}"

    def _encode(self, args: Sequence[str]) -> list[bytes] | str:
        """Return the arguments as UTF-8, or why they are refused before any pattern is tried."""
        if len(args) > ARGS_MAX:
            return f"args: {len(args)} arguments; at most {ARGS_MAX} are allowed"
        encoded: list[bytes] = []
        total_bytes = 0
        for index, arg in enumerate(args):
            # Before encoding: a character is at least a byte, so a huge argument costs nothing.
            if total_bytes + len(arg) > self.max_total_args_len:
                return self._too_long(index)
            if "\0" in arg:
                return f"args[{index}]: {shown(arg)} holds a NUL character"
            try:
                raw = arg.encode()
            except UnicodeEncodeError:
                return f"args[{index}]: {shown(arg)} is not text: it holds half of a surrogate pair"
            total_bytes += len(raw)
            if total_bytes > self.max_total_args_len:
                return self._too_long(index)
            encoded.append(raw)
        return encoded

    def _too_long(self, index: int) -> str:
        return (
            f"args[{index}]: with this argument the list is longer than the {self.max_total_args_len} bytes"
            f" that {self.name} may get (max_total_args_len)"
        )


class _Cut:
    """One attempt to cut an argument list into groups. Each pattern sees each argument at most once."""

    def __init__(self, groups: tuple[Group, ...], args: list[bytes]) -> None:
        self._groups = groups
        self._args = args
        self._seen: dict[tuple[str, int], bool] = {}

    def refusal(self, rule: Rule, args: Sequence[str]) -> str | None:
        """Return None if a cut exists, else the reason, told at the argument where every cut ends."""
        count = len(self._args)
        reachable = [True] + [False] * count
        stuck_at, needs = 0, None
        for start in range(count):
            if not reachable[start]:
                continue
            if start > stuck_at:
                stuck_at, needs = start, None
            for group in self._groups:
                fit = self._fit(group, start)
                if fit == len(group):
                    reachable[start + fit] = True
                elif start + fit > stuck_at:
                    stuck_at, needs = start + fit, group
        if reachable[count]:
            return None
        return _reason(rule, args, stuck_at, needs)

    def _fit(self, group: Group, start: int) -> int:
        """Return how many of the group's patterns match the arguments from `start` on."""
        for offset, pattern in enumerate(group):
            index = start + offset
            if index >= len(self._args) or not self._matches(pattern, index):
                return offset
        return len(group)

    def _matches(self, pattern: Pattern, index: int) -> bool:
        key = (pattern.text, index)
        known = self._seen.get(key)
        if known is None:
            known = self._seen[key] = pattern.matches(self._args[index])
        return known


def _reason(rule: Rule, args: Sequence[str], index: int, needs: Group | None) -> str:
    if index >= len(args):
        what = f"args: the list ends after {shown(args[-1])}" if args else "args: the list is empty"
    else:
        what = f"args[{index}]: {shown(args[index])} is not allowed"
        if index > 0:
            what += f" after {shown(args[index - 1])}"
    if needs is not None:
        what += f", where {rule.name} takes {_group_text(needs)}"
    known = " ".join(_group_text(group) for group in rule.groups) or "no arguments"
    text = f"{what}; {rule.name} takes groups of: {known}"
    return text if len(text) <= _REASON_CHARS_MAX else text[: _REASON_CHARS_MAX - 3] + "..."


def _group_text(group: Group) -> str:
    return "[" + " ".join(pattern.text for pattern in group) + "]"


def shown(text: str) -> str:
    """Return `text` quoted, in ASCII and shortened, for a message that somebody reads on a terminal."""
    cut = text if len(text) <= _ARG_SHOWN_CHARS_MAX else text[:_ARG_SHOWN_CHARS_MAX] + "..."
    return json.dumps(cut)
