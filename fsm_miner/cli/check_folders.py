"""Checks of the disk: folders, their rights and space, the journal, the Python runner's files."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from fsm_miner.cli.finding import Finding, Lines, ok, problem, warning
from fsm_miner.config import Config
from fsm_miner.workspace import free_bytes
from journal.port import JournalError
from journal.reader import open_reader
from journal.schema import SchemaTooNew

__all__ = ["check_folders", "check_python"]

_MIB = 1024 * 1024
_JOURNAL_FREE_MB = 100
_ENTRIES_MAX = 50_000


def check_folders(config: Config, lines: Lines) -> Iterator[Finding]:
    """Check workspace, journal and log."""
    root, reserve_mb = config.workspace.root, config.resources.disk_reserve_mb
    yield _makeable(root, "workspace.root", lines)
    yield _space(root, "workspace.root", reserve_mb, f"resources.disk_reserve_mb keeps {reserve_mb}", lines)
    yield _makeable(config.state_dir, "journal.path", lines)
    yield _space(
        config.state_dir,
        "journal.path",
        _JOURNAL_FREE_MB,
        f"the journal should have more than {_JOURNAL_FREE_MB}",
        lines,
    )
    yield _journal(config.journal.path, lines)
    if config.logging.path is not None:
        yield _log(config.logging.path, lines)
    yield from _shown_to_jobs(config, lines)


def _shown_to_jobs(config: Config, lines: Lines) -> Iterator[Finding]:
    """Check what the operator lets jobs read beside the system."""
    key = "sandbox.extra_ro_binds"
    for path in config.sandbox.extra_ro_binds:
        try:
            path.stat()
        except (FileNotFoundError, NotADirectoryError):
            yield problem(f"{path}: is not there, so no job can start", key, lines)
            continue
        except OSError as error:
            yield warning(f"{path}: can't be looked at: {error.strerror}", key, lines)
            continue
        for name, own in (("journal", config.state_dir), ("jobs' folders", config.workspace.root)):
            if own.is_relative_to(path):
                yield warning(f"{path}: jobs may read the {name} in it ({own})", key, lines)
        found = _socket_in(path)
        if found is not None:
            yield warning(
                f"{path}: a service listens there, and read-only does not keep a job from talking to it ({found})",
                key,
                lines,
            )


def _socket_in(path: Path) -> Path | None:
    """Return a socket at or below the path, of those entries that are looked at."""
    if _is_socket(path):
        return path
    seen = 0
    for folder, _, files in os.walk(path):
        for name in files:
            seen += 1
            if _is_socket(found := Path(folder) / name):
                return found
        if seen > _ENTRIES_MAX:
            break
    return None


def _is_socket(path: Path) -> bool:
    try:
        return stat.S_ISSOCK(path.lstat().st_mode)
    except OSError:
        return False  # out of reach, or gone


def _makeable(folder: Path, key: str, lines: Lines) -> Finding:
    """Check that a folder can be written to, or made."""
    there = _nearest(folder)
    if not there.is_dir():
        return problem(f"{there}: is no folder", key, lines)
    if not os.access(there, os.W_OK | os.X_OK):
        return problem(f"{there}: this user may not write there", key, lines)
    return ok(f"{folder}: " + ("writable" if there == folder else f"will be made in {there}"), key)


def _space(folder: Path, key: str, least_mb: int, why: str, lines: Lines) -> Finding:
    there = _nearest(folder)
    try:
        free_mb = free_bytes(there) // _MIB
    except OSError as error:
        return problem(f"{there}: {error.strerror}", key, lines)
    if free_mb <= least_mb:
        return problem(f"{there}: {free_mb} MiB free; {why}", key, lines)
    return ok(f"{there}: {free_mb} MiB free", key)


def _nearest(path: Path) -> Path:
    """Return `path`, or the nearest thing above it that is there and may be looked at."""
    return next((one for one in (path, *path.parents) if os.path.lexists(one)), Path("/"))


def _journal(path: Path, lines: Lines) -> Finding:
    key = "journal.path"
    if not os.path.lexists(path):
        return ok(f"{path}: will be made at the first start", key)
    if not os.access(path, os.R_OK | os.W_OK):
        return problem(f"{path}: this user may not read and write it", key, lines)
    try:
        open_reader(path).close()
    except SchemaTooNew as error:
        return problem(f"{path}: {error}", key, lines)
    except (JournalError, OSError) as error:
        return warning(f"{path}: {error}; a daemon that starts salvages what can be read", key, lines)
    return ok(f"{path}: can be opened; `fsm-miner verify` checks every record", key)


def _log(path: Path, lines: Lines) -> Finding:
    key, folder = "logging.path", path.parent
    if not folder.is_dir():
        return problem(
            f"{folder}: is not there, so nothing would be logged; run: install -d {folder}", key, lines
        )
    if not os.access(path if path.exists() else folder, os.W_OK):
        return problem(f"{path}: this user may not write it", key, lines)
    return ok(f"{path}: writable", key)


def check_python(config: Config, lines: Lines) -> Iterator[Finding]:
    """Check the Python runner's interpreter and task folders."""
    section = config.runners.python
    if not section.enable:
        yield ok("off", "runners.python.enable")
        return
    interpreter = section.venv / "bin" / "python"
    key = "runners.python.venv"
    if os.access(interpreter, os.X_OK):
        yield ok(f"{interpreter}: there", key)
    else:
        yield problem(f"{interpreter}: is no program; run: python3 -m venv {section.venv}", key, lines)
    key = "runners.python.task_paths"
    for folder in section.task_paths:
        if not folder.is_dir():
            yield problem(
                f"{folder}: is no folder, so no Python job can start; run: install -d {folder}", key, lines
            )
        elif not os.access(folder, os.R_OK | os.X_OK):
            yield problem(f"{folder}: this user may not read it", key, lines)
        else:
            yield ok(f"{folder}: there", key)
    if not section.task_paths:
        yield warning("no folder with tasks, so every Python job will be refused (E_DENY)", key, lines)
