"""What a put-back leaves on the disk, and finishing one that a kill or a power cut has interrupted.

    <name>                   the journal; missing, without its log, or somebody else's file while it is put back
    <name>.putback           a copy of the open database, being made, in one transaction
    <name>.putback-whole     complete and durable: from here on it takes its place, if need be at the next start
    <name>.stranger-<stamp>  what was in its place
    <name>.unfinished        what there was of a copy at the last start that found one cut short

Nothing is appended while a whole copy waits, so it never is older than what lies in its place.
"""

from contextlib import suppress
from pathlib import Path

from journal.onlooker import Damaged
from journal.reader import open_reader
from journal.retention import stamp
from journal.schema import fsync_folder

__all__ = ["SUFFIXES", "finish_put_back", "is_stranger", "part", "remove_part", "set_aside", "whole"]

SUFFIXES = ("", "-wal", "-shm")
_SQLITE_MAKES = ("-journal", "-wal", "-shm")


def part(path: Path) -> Path:
    """Return where a copy is made of the journal at `path`."""
    return path.with_name(path.name + ".putback")


def remove_part(path: Path) -> None:
    """Remove what there is of a copy that was not called complete.

    Raises:
        OSError: it is still there.

    """
    copy = part(path)
    copy.unlink(missing_ok=True)
    _remove_beside(copy)


def whole(path: Path) -> Path:
    """Return where a complete copy waits."""
    return path.with_name(path.name + ".putback-whole")


def is_stranger(path: Path, name: str) -> bool:
    """Return whether a file of that name is one that was set aside (its log and index don't count)."""
    return name.startswith(f"{path.name}.stranger-") and name.endswith("Z")


def set_aside(path: Path, at_ns: int) -> None:
    """Rename what is in the journal's place, the log first: left there, SQLite would replay it into the copy.

    Raises:
        OSError: a file could not be renamed.

    """
    aside = f"{path.name}.stranger-{stamp(at_ns)}"
    for suffix in ("-wal", "-shm", ""):
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(path.with_name(aside + suffix))


def finish_put_back(path: Path) -> Path | None:
    """Put the copy in its place; call it before the journal is opened. Returns a copy that is of no use, if any.

    A copy that was whole but not yet called so counts too. One that was cut short fills an empty place, for there
    is nothing better to salvage; otherwise it is set aside, and what was appended last may be lost.

    Raises:
        SchemaTooNew: a later release made the copy; nothing was changed.
        OSError: a file could not be renamed.

    """
    copy, complete = part(path), whole(path)
    if not complete.exists():
        if not copy.exists():
            return None
        if not _is_whole(copy) and (_holds_something(path) or not _holds_something(copy)):
            return _give_up(path, copy)
        _remove_beside(copy)
        copy.rename(complete)
        fsync_folder(path.parent)
    set_aside(path, complete.stat().st_mtime_ns)  # the same name, however often this is interrupted
    fsync_folder(path.parent)
    complete.rename(path)
    remove_part(path)
    fsync_folder(path.parent)
    return None


def _is_whole(copy: Path) -> bool:
    """Whether SQLite has committed it: a rollback journal beside it says that it has not."""
    if copy.with_name(copy.name + "-journal").exists():
        return False
    try:
        with open_reader(copy) as reader:
            return reader.damage(chains=False) is None
    except Damaged:
        return False


def _holds_something(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def _give_up(path: Path, copy: Path) -> Path:
    _remove_beside(copy)
    aside = path.with_name(path.name + ".unfinished")
    copy.rename(aside)
    fsync_folder(path.parent)
    return aside


def _remove_beside(copy: Path) -> None:
    """Remove what SQLite made beside a copy: its rollback journal only says that it was empty before."""
    for suffix in _SQLITE_MAKES:
        copy.with_name(copy.name + suffix).unlink(missing_ok=True)
