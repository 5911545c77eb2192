"""`state.json` in each job's folder: for people and scripts, written from the journal, never read back.

So it needs no fsync, and a failure to write it is no failure of anything else: it is reported, once per
attempt to write, and the work goes on.
"""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["write_state_json"]

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC


def write_state_json(path: Path, data: Mapping[str, Any], report: Callable[[str], None]) -> None:
    """Replace `path` (`Workspace.state_json`) by `data` as JSON, at one stroke.

    About 0.2 ms, so it may be called from the event loop. Never raises for what the disk or the data is
    like: `report` gets one sentence instead. A folder that is gone (swept) is nothing to report.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        text = json.dumps(data, indent=2, sort_keys=True, allow_nan=False) + "\n"
        fd = os.open(temporary, _FLAGS, 0o644)
        with open(fd, "w", encoding="utf-8") as file:  # noqa: PTH123 - a descriptor, not a path
            file.write(text)
        temporary.replace(path)
    except FileNotFoundError:
        return
    except (OSError, TypeError, ValueError, RecursionError) as problem:
        report(f"{path}: the snapshot was not written: {type(problem).__name__}: {problem}")
