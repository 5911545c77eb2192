"""One pattern for one whole argument, matched in time linear in the argument.

The engine is RE2: it has no back-tracking, so no pattern and no argument makes it slow, and what would
need back-tracking (back-references, look-around) is refused when the pattern is read.
"""

from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import re2

__all__ = ["PATTERN_BYTES_MAX", "Pattern", "PatternProblem"]

PATTERN_BYTES_MAX = 2_000
"""The longest pattern, in bytes of UTF-8."""

_MEMORY_BYTES_MAX = 1 << 20
"""What RE2 may spend on one pattern, compiled program and caches together."""


class PatternProblem(Exception):
    """The text is not a pattern that may be used. `str()` says why."""


class _Compiled(Protocol):
    def fullmatch(self, text: bytes) -> object | None: ...


@dataclass(frozen=True, slots=True)
class Pattern:
    """A compiled pattern. Two patterns are equal when their texts are."""

    text: str
    _compiled: _Compiled = field(repr=False, compare=False)

    @classmethod
    def compile(cls, text: str) -> "Pattern":
        """Compile `text` (RE2 syntax).

        Raises:
            PatternProblem: it is too long, takes too much memory, or is no regular expression.

        """
        try:
            raw = text.encode()
        except UnicodeEncodeError:
            raise PatternProblem("not text: half of a surrogate pair") from None
        if len(raw) > PATTERN_BYTES_MAX:
            raise PatternProblem(f"longer than {PATTERN_BYTES_MAX} bytes; split it into several groups")
        # The library has no types of its own: Any here, and narrowed where it leaves.
        engine = cast("Any", re2)
        options = engine.Options()
        options.max_mem = _MEMORY_BYTES_MAX
        options.log_errors = False  # the problem is reported by the caller, not on standard error
        options.never_capture = True
        try:
            return cls(text, cast("_Compiled", engine.compile(raw, options)))
        except engine.error as error:
            raise PatternProblem(f"not a regular expression: {_reason(error)}") from None

    def matches(self, argument: bytes) -> bool:
        """Say whether the whole of `argument` (UTF-8) matches: `^` and `$` are implied.

        As in RE2, `.` is any character but a newline, and `$` does not overlook a last newline.
        """
        return self._compiled.fullmatch(argument) is not None


def _reason(error: Exception) -> str:
    """Return what RE2 said; it hands its message over as bytes."""
    said: object = error.args[0] if error.args else "unknown"
    return said.decode(errors="replace") if isinstance(said, bytes) else str(said)
