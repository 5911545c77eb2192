"""Points at what Python itself does: it announces each change of a file, and each spawn, to an audit hook.

That gives the boundaries inside of an effect (between the parts of making a workspace, between a run's lock and its
process) without a word about them in the code that has them. PEP 578; the table of events in Python's library manual.
Announced is what is about to be done, so these points have the side before, and no other.
"""

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fsm_miner.fault_points.points import FaultPoints
from fsm_miner.fault_points.spec import PLACES
from fsm_miner.workspace import TRASH_PREFIX, key_of_folder
from runners import egress_listener

__all__ = ["place_of", "watch_system"]

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
# Event: our name for it, and where among the arguments the path and its folder's descriptor are.
_EVENTS: dict[str, tuple[str, int, int | None]] = {
    "os.mkdir": ("mkdir", 0, 2),
    "os.rmdir": ("rmdir", 0, 1),
    "os.remove": ("remove", 0, 1),
    "os.rename": ("rename", 1, 3),
    "os.symlink": ("symlink", 1, 2),
    "os.link": ("link", 1, 3),
    "os.chmod": ("chmod", 0, 2),
    "os.truncate": ("truncate", 0, None),
}
_LISTENER = egress_listener.__file__
_FOLDERS = ("input", "work", "output", "logs", "control")
_KNOWN = (
    (re.compile(r"control/run-\d+\.lock"), "control/lock"),
    (re.compile(r"control/run-\d+\.status"), "control/status"),
    (re.compile(r"control/run-\d+\.usage\.jsonl"), "control/usage"),
    (re.compile(r"control/task-\d+\.json"), "control/task"),
    (re.compile(r"input/\.part-\d+"), "input/.part"),
    (re.compile(r"\.?state\.json(\.tmp)?"), "state.json"),
)


def watch_system(points: FaultPoints, root: Path) -> None:
    """Pass points from now on, until the process ends, for files below the folder of jobs, and for spawns."""
    sys.addaudithook(_hook(points, root))


def _hook(points: FaultPoints, root: Path) -> Callable[[str, tuple[Any, ...]], None]:
    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            if isinstance(args[2], int) and args[2] & _WRITING:
                _pass_file(points, root, "open", args[0], None)
        elif event == "os.posix_spawn":
            points.before("process.spawn")
        elif event == "subprocess.Popen" and _LISTENER in args[1]:
            points.before("process.listen")
        elif event in _EVENTS:
            name, path_at, folder_at = _EVENTS[event]
            folder = args[folder_at] if folder_at is not None else None
            _pass_file(points, root, name, args[path_at], folder)

    return hook


def _pass_file(points: FaultPoints, root: Path, operation: str, path: Any, folder: Any) -> None:
    found = place_of(root, _absolute(path, folder))
    if found is not None:
        place, job = found
        points.before(f"file.{operation}:{place}", job)


def _absolute(path: Any, folder: Any) -> str | None:
    """Return the path as the kernel will see it; None for a descriptor, and for what can't be told."""
    if isinstance(path, Path):
        path = str(path)
    if not isinstance(path, str | bytes):
        return None
    name = os.fsdecode(path)
    if name.startswith("/"):
        return name
    if not isinstance(folder, int) or folder < 0:
        return None
    try:
        return f"{os.readlink(f'/proc/self/fd/{folder}')}/{name}"  # noqa: PTH115 - text, whatever is in it
    except OSError:
        return None


def place_of(root: Path, path: str | None) -> tuple[str, str | None] | None:
    """Return which of `spec.PLACES` a path is, and of which job; None for what does not lie below `root`."""
    if path is None or not path.startswith(f"{root}/"):
        return None
    first, _, rest = path.removeprefix(f"{root}/").partition("/")
    if first.startswith(TRASH_PREFIX):
        return "trash", None
    key = key_of_folder(first)
    if key is None:
        return "other", None
    return _place_in_job(rest), key.job_id


def _place_in_job(rest: str) -> str:
    if not rest:
        return "job"
    if rest in PLACES:
        return rest
    for pattern, place in _KNOWN:
        if pattern.fullmatch(rest):
            return place
    top = rest.partition("/")[0]
    return f"{top}/*" if top in _FOLDERS else "other"
