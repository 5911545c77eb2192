"""Putting a case together: a job's story, and what its folder still holds. Read-only."""

import platform
import shutil
import sqlite3
import subprocess
from collections.abc import Mapping
from pathlib import Path

from fsm_miner import __version__
from fsm_miner.forensics.case import LOG_TAIL_BYTES_MAX, Case, Sample
from fsm_miner.forensics.samples import read_samples
from fsm_miner.forensics.story import Story
from fsm_miner.log_tail import read_tail
from fsm_miner.workspace import Workspace, key_of_folder
from journal.port import StreamKey
from runners.host import parse_version

__all__ = ["bwrap_version", "collect_case", "folder_of", "versions_here"]


_TRUSTED_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_ANSWER_S = 5


def collect_case(
    story: Story,
    source: str,
    *,
    others: tuple[int, ...] = (),
    root: Path | None = None,
    versions: Mapping[str, str] | None = None,
    node_id: str | None = None,
) -> Case:
    """Return the case of a story that was read from `source`, with what the job's folder below `root` holds.

    `root` is the configuration's workspace.root, None if there is none to look into. What can't be read becomes a
    note. `versions` are added to those of this program.
    """
    folder = None if root is None else folder_of(root, story.key)
    log_tail: str | None = None
    samples: tuple[Sample, ...] | None = None
    notes: list[str] = []
    if folder is None:
        notes.append("the log and the usage were not looked for: no folder of jobs is known here")
    else:
        try:
            if folder.is_dir():
                log_tail = read_tail(folder / "logs" / "exec.log", LOG_TAIL_BYTES_MAX)
                samples = read_samples(folder)
            else:
                notes.append(
                    f"{folder}: the job's folder is not there (any more), so neither are log and usage"
                )
        except OSError as error:
            notes.append(f"{folder}: can't be read: {error.strerror}")
    return Case(
        story,
        source,
        others,
        log_tail,
        samples,
        {**versions_here(), **(versions or {})},
        node_id=node_id,
        notes=tuple(notes),
    )


def folder_of(root: Path, key: StreamKey) -> Path | None:
    """Return where the workspace of `key` is, if it is there; None if no workspace can have such a name."""
    name = key.job_id if key.attempt == 1 else f"{key.job_id}@{key.attempt}"
    if key_of_folder(name) != key:
        return None
    return Workspace(root.absolute(), *key).folder


def versions_here() -> dict[str, str]:
    """Return the versions of this program and of what it runs on."""
    return {
        "fsm-miner": __version__,
        "python": platform.python_version(),
        "kernel": platform.release(),
        "sqlite": sqlite3.sqlite_version,
    }


def bwrap_version(search_path: str = _TRUSTED_PATH) -> str | None:
    """Return the version of bubblewrap on this machine, None if it has none or says none. Starts it."""
    bwrap = shutil.which("bwrap", path=search_path)
    if bwrap is None:
        return None
    try:
        done = subprocess.run(
            [bwrap, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env={},
            timeout=_ANSWER_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    version = parse_version(done.stdout[:200].decode("ascii", "replace"))
    return ".".join(map(str, version)) or None
