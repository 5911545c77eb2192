"""Writing a file that a command makes: whole or not at all, for its owner's eyes, over nothing that is there."""

import errno
import os
import secrets
import stat
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import typer

from fsm_miner.cli.outcome import ExitCode, Refused
from fsm_miner.cli.streams import writing
from journal.schema import fsync_folder

__all__ = ["STDOUT", "ForceOption", "check_free", "staged", "write_file"]

STDOUT = Path("-")
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a link",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
}

# What a file system without hard links answers.
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})

ForceOption = Annotated[bool, typer.Option("--force", help="Replace a plain file that is there already.")]


def check_free(path: Path, *, force: bool) -> None:
    """Refuse at once what `write_file` would refuse at the end.

    Raises:
        Refused: something has this name, and `force` is not given or it is anything but a plain file with one name.

    """
    if path == STDOUT:
        return
    try:
        there = path.lstat()
    except OSError:
        return  # nothing is there, or whoever writes says what is wrong
    if not stat.S_ISREG(there.st_mode) or there.st_nlink != 1:
        raise Refused(
            ExitCode.HOST,
            f"{path}: {_what(there)} is there, and only a plain file with one name is ever replaced: "
            "choose another name",
        )
    if not force:
        raise Refused(ExitCode.NO, f"{path}: is there already; --force replaces it")


def _what(there: os.stat_result) -> str:
    """Return in words what is no plain file with one name."""
    if stat.S_ISREG(there.st_mode):
        return f"a file with {there.st_nlink} names"
    return _KINDS.get(stat.S_IFMT(there.st_mode), "no file")


def write_file(path: Path, data: bytes, *, force: bool = False) -> None:
    """Write `data` to `path` (mode 0600) at one stroke, durably; `-` is standard output.

    Raises:
        Refused: as `check_free` has it, or the file can't be written.
        OutputLost: standard output can't be written.

    """
    if path == STDOUT:
        with writing():
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        return
    with staged(path, force=force) as file:
        file.write_bytes(data)


@contextmanager
def staged(path: Path, *, force: bool = False) -> Generator[Path]:
    """Give an empty file (mode 0600) to fill; it becomes `path`, durably, when the block ends well, else it is gone.

    Raises:
        Refused: as `check_free` has it, or the file can't be written.

    """
    check_free(path, force=force)
    folder = _folder_of(path)
    target = folder / path.name
    made = folder / f".{path.name[:200]}.{secrets.token_hex(6)}.partial"
    try:
        os.close(os.open(made, _FLAGS, 0o600))
        try:
            yield made
            with made.open("rb") as file:
                os.fsync(file.fileno())
            _settle(made, target, force=force)
            fsync_folder(folder)
        finally:
            with suppress(FileNotFoundError):
                made.unlink()
    except PermissionError as error:
        raise Refused(ExitCode.HOST, f"{path}: {error.strerror}") from None
    except OSError as error:
        raise Refused(ExitCode.NO, f"{path}: can't be written: {error.strerror}") from None


def _folder_of(path: Path) -> Path:
    """Return where the file goes, without links.

    Raises:
        Refused: this is root, and somebody else could exchange the file, or a folder above it, for a link to anywhere.

    """
    folder = path.absolute().parent.resolve()
    if os.geteuid() != 0:
        return folder
    for above in (folder, *folder.parents):
        try:
            found = above.stat(follow_symlinks=False)
        except OSError as error:
            raise Refused(ExitCode.NO, f"{path}: can't be written: {error.strerror}") from None
        shared = found.st_mode & (stat.S_IWGRP if found.st_gid != 0 else 0) or found.st_mode & stat.S_IWOTH
        # In a container's user namespace / may belong to nobody who is known there.
        owned = found.st_uid in {0, Path("/").stat().st_uid}
        if not owned or (shared and not found.st_mode & stat.S_ISVTX):
            raise Refused(
                ExitCode.HOST,
                f"{path}: others than root may change {above}, and could lead this file elsewhere: "
                f"name a file in a folder of root's, or run this as the folder's owner",
            )
    return folder


def _settle(made: Path, path: Path, *, force: bool) -> None:
    """Give the file its name. A link is refused where the name is taken; a rename would replace what is there."""
    if not force:
        try:
            os.link(made, path)
            return
        except OSError as error:
            if error.errno not in _NO_LINKS | {errno.EEXIST}:
                raise
    check_free(path, force=force)
    made.replace(path)
