"""What `FSM_MINER_FAULT` says, and the names that it may use.

    before POINT[#N][@JOB]     die when POINT is reached for the Nth time (1 where it is not said), by job JOB if said
    after POINT[#N][@JOB]      the same when what POINT names has been done, and nothing has been made of it yet
    raise POINT[#N][@JOB]      live on, and fail there as a defect would: before it, by an exception that nobody expects
    list FILE                  die nowhere; append a line `SIDE POINT JOB` to FILE for each point that is passed

The variable is the daemon's own: no configuration, no coordinator and no job can set it, and no job inherits it.
"""

import re
from collections.abc import MutableMapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from states.events import VERSIONS

__all__ = ["POINTS", "VARIABLE", "Die", "FaultSpecError", "ListPoints", "Side", "parse", "take_spec"]

VARIABLE = "FSM_MINER_FAULT"

_JOURNAL = "journal.append:"
_FORM = re.compile(r"(?P<side>\w+) (?P<point>[^#@\s]+)(#(?P<nth>[1-9][0-9]{0,5}))?(@(?P<job>\S{1,128}))?")
_QUOTED_CHARS_MAX = 200

CALLS = ("register", "heartbeat", "pull", "ack", "progress", "result", "fail", "reconcile")
SITE = ("prepare", "launch", "watch", "stop", "collect", "parcel", "snapshot")
OPERATIONS = ("open", "mkdir", "rmdir", "remove", "rename", "symlink", "link", "chmod", "truncate")
PLACES = (
    "job", "input", "work", "output", "logs", "control",
    "input/*", "work/*", "output/*", "logs/*", "control/*",
    "input/.part", "logs/exec.log", "logs/stdout", "control/lock", "control/status", "control/task", "control/usage",
    "state.json", "trash", "other",
)  # fmt: skip

_TWO_SIDED = frozenset(
    {f"coordinator.{name}" for name in CALLS}
    | {f"site.{name}" for name in SITE}
    | {f"{_JOURNAL}{event}" for event in VERSIONS}
)
_ONE_SIDED = frozenset(
    {"upload.chunk", "download.chunk", "process.spawn", "process.listen"}
    | {f"file.{operation}:{place}" for operation in OPERATIONS for place in PLACES}
)
POINTS = tuple(sorted(_TWO_SIDED | _ONE_SIDED))
"""Every name. An append of several events at once is named by all of them: `journal.append:Ended+OutcomeKnown`."""


class FaultSpecError(ValueError):
    """The variable says what can't be done. The message names it and tells what to write instead."""


class Side(StrEnum):
    """Where at a point; `raise` is before it."""

    BEFORE = "before"
    AFTER = "after"
    RAISE = "raise"


@dataclass(frozen=True, slots=True)
class Die:
    """End the process at one point, or fail there. `nth` counts from 1, the passes of `job` alone where it is set."""

    side: Side
    point: str
    nth: int = 1
    job: str | None = None


@dataclass(frozen=True, slots=True)
class ListPoints:
    """Write down which points are passed."""

    file: Path


def take_spec(environ: MutableMapping[str, str]) -> Die | ListPoints | None:
    """Take the variable out of the environment, so that no child inherits it; None if it is not set.

    Raises:
        FaultSpecError: it is set, and to nothing that is known.

    """
    text = environ.pop(VARIABLE, None)
    return None if text is None else parse(text)


def parse(text: str) -> Die | ListPoints:
    """Read a specification.

    Raises:
        FaultSpecError: it is none.

    """
    if text.startswith("list "):
        file = Path(text.removeprefix("list "))
        if not file.is_absolute():
            raise _wrong(text, "list needs an absolute path")
        return ListPoints(file)
    found = _FORM.fullmatch(text)
    if found is None or found["side"] not in set(Side):
        raise _wrong(
            text,
            "not `before POINT`, `after POINT`, `raise POINT` or `list FILE`, where #N after POINT means its Nth "
            "time and @JOB one job alone",
        )
    side, point = Side(found["side"]), found["point"]
    if not _known(point):
        raise _wrong(text, f"there is no point {point!r}; `list FILE` writes down those that are passed")
    if side is Side.AFTER and point in _ONE_SIDED:
        raise _wrong(text, f"{point} has only the side before: what follows is before the next point")
    return Die(side, point, int(found["nth"] or 1), found["job"])


def _known(point: str) -> bool:
    if point.startswith(_JOURNAL):
        return all(event in VERSIONS for event in point.removeprefix(_JOURNAL).split("+"))
    return point in _TWO_SIDED or point in _ONE_SIDED


def _wrong(text: str, what: str) -> FaultSpecError:
    shown = text[:_QUOTED_CHARS_MAX]
    return FaultSpecError(
        f"{VARIABLE}={shown!r}: {what}. Unset it on a node that works: see docs/fault-points.md"
    )
