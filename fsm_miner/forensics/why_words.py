"""Times, spans, places and causes as sentences need them. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from fsm_miner.forensics.telling import ranges
from fsm_miner.words import NS
from states.codes import ErrorCode, Failure

__all__ = [
    "Calendar",
    "Sentence",
    "because",
    "lasting",
    "mending",
    "nanoseconds",
    "quoted",
    "sentence",
    "times",
    "used",
]

_QUOTED_MAX = 300
_COUNTS = ("never", "once", "twice", "three times", "four times")

_BECAUSE: Mapping[str, str] = MappingProxyType(
    {
        ErrorCode.INVALID: "its manifest can't be run anywhere",
        ErrorCode.SIGNATURE: "its manifest is not signed as this node demands",
        ErrorCode.DENY: "the rules of this node don't allow it",
        ErrorCode.NOGPU: "no card of this node fits it",
        ErrorCode.NORESOURCE: "this node doesn't have what it needs",
        ErrorCode.INPUT: "an input could not be had",
        ErrorCode.EXIT: "its command gave an exit code other than 0",
        ErrorCode.SIGNAL: "a signal killed it that this node had not sent",
        ErrorCode.TIMEOUT: "its time ran out",
        ErrorCode.OOM: "it took more memory than it may",
        ErrorCode.OUTPUT: "it wrote more than it may",
        ErrorCode.ARTIFACT: "it did not leave what it had promised",
        ErrorCode.CANCELLED: "it was stopped because somebody wanted that",
        ErrorCode.LOST: "its process was lost",
        ErrorCode.UPLOAD: "the coordinator did not want the result as it is",
        ErrorCode.INTERNAL: "the node itself has a defect; its log has the trace",
    }
)
_NOT_RUN = "bwrap: execvp "  # what the sandbox says that stands and can't start the program


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence, and the numbers of the records behind it, in order. `marked` has them in brackets.

    `topic` is one of "damage", "verdict", "start", "run", "outcome", "delivery", "now".
    """

    topic: str
    text: str
    marked: str
    records: tuple[int, ...]


def because(code: str, message: object) -> str:
    """Return what an error code means, as the end of a sentence that begins with "because"."""
    if code == ErrorCode.INTERNAL and _NOT_RUN in str(message):
        return "its program can't be run in the sandbox; `fsm-miner check` says what it lacks"
    return _BECAUSE[code]


def sentence(topic: str, *parts: tuple[str, Sequence[int]]) -> Sentence:
    """Make a sentence of its parts, each with the numbers of the records behind it. It gets its full stop here."""
    plain = "".join(words for words, _ in parts)
    marked = "".join(words + (f" [{ranges(sorted(seqs))}]" if seqs else "") for words, seqs in parts)
    records = sorted({seq for _, seqs in parts for seq in seqs})
    return Sentence(topic, f"{plain}.", f"{marked}.", tuple(records))


def quoted(words: object) -> str:
    """Return somebody else's words, cut, and without a full stop of their own."""
    text = str(words).strip().rstrip(".")
    return text if len(text) <= _QUOTED_MAX else text[: _QUOTED_MAX - 1] + "…"


def times(number: int) -> str:
    """Return how often: `once`, `twice`, `14 times`."""
    return _COUNTS[number] if number < len(_COUNTS) else f"{number} times"


def nanoseconds(seconds: object) -> int:
    """Return seconds of an event in nanoseconds. Of a list, which a changed record may hold, `*` would make a huge one.

    Raises:
        TypeError, OverflowError, ValueError: it is no number, or none of use.

    """
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise TypeError(f"not a number: {type(seconds).__name__}")
    return int(seconds * NS)


def lasting(span_ns: int) -> str:
    """Return a length of time in at most two units: `12 ms`, `4.2 s`, `4 min 5 s`, `3 h 12 min`, `2 d 4 h`."""
    seconds = abs(span_ns) / NS
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for unit, big, small, divisor in (("s", 1, None, 60), ("min", 60, "s", 3600), ("h", 3600, "min", 86400)):
        if whole < divisor:
            return _two(whole, big, unit, small)
    return _two(whole, 86400, "d", "h")


def _two(whole: int, big: int, unit: str, small: str | None) -> str:
    if small is None:
        return f"{whole} {unit}"
    rest = whole % big // {"s": 1, "min": 60, "h": 3600}[small]
    return f"{whole // big} {unit}" + (f" {rest} {small}" if rest else "")


class Calendar:
    """Says when something was. The day is named where it is another one than in what was said before."""

    def __init__(self) -> None:
        self._day: str | None = None

    def at(self, at_ns: int) -> str:
        """Return a time (UTC, nanoseconds since the epoch): `at 21:53:07`."""
        try:
            moment = datetime.fromtimestamp(at_ns // NS, UTC)
        except (OverflowError, ValueError, OSError):
            return "at a time that is none"
        first, day = self._day is None, f"{moment.day} {moment:%B %Y}"
        named = "" if day == self._day else f"{' UTC' if first else ''} on {day}"
        self._day = day
        return f"at {moment:%H:%M:%S}{named}"


def mending(failure: Failure) -> str:
    """Return whether trying again could have helped, as the end of a sentence on a failure."""
    if failure.code is ErrorCode.CANCELLED:
        return "nobody is to try it again"
    if failure.retry_here:
        return "no run was left to try it again"
    return "another node may try it" if failure.retryable else "trying again can't mend it"


def used(usage: Mapping[str, Any]) -> str:
    """Return what a run used, as an inserted clause; "" if nothing is known."""
    cpu_s, memory_mb = usage.get("cpu_s"), usage.get("max_rss_mb")
    parts = [f"{lasting(nanoseconds(cpu_s))} of CPU time"] if cpu_s else []
    parts += [f"{memory_mb:.{0 if memory_mb >= 10 else 1}f} MiB of memory"] if memory_mb else []
    return f", having used {' and '.join(parts)}" if parts else ""
