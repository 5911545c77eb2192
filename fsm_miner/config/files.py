"""Reading a small file that a person maintains: bounded, regular, without ever waiting for it."""

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["FileRefused", "SmallFile", "read_small_file"]


class FileRefused(Exception):
    """The file cannot be read, or is not what it should be. The message is for people.

    `reason` is the message without the file's name, `missing` whether there is no such file.
    """

    def __init__(self, message: str, reason: str | None = None, *, missing: bool = False) -> None:
        super().__init__(message)
        self.reason = message if reason is None else reason
        self.missing = missing


@dataclass(frozen=True, slots=True)
class SmallFile:
    """A file's bytes and its permission bits, both of the same open file."""

    content: bytes = field(repr=False)
    mode: int


def read_small_file(path: Path, max_bytes: int) -> SmallFile:
    """Read a regular file of at most `max_bytes`.

    Raises:
        FileRefused: missing, unreadable, no regular file, or larger.

    """
    try:
        # O_NONBLOCK: opening a FIFO would otherwise wait for its writer for ever.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise FileRefused(f"{path} is not a regular file", "is not a regular file")
            with os.fdopen(fd, "rb", closefd=False) as file:
                content = file.read(max_bytes + 1)
        finally:
            os.close(fd)
    except OSError as error:
        raise FileRefused(
            f"cannot read {path}: {error.strerror}",
            f"can't be read: {error.strerror}",
            missing=isinstance(error, FileNotFoundError),
        ) from None
    except ValueError:
        raise FileRefused("the path holds a NUL character") from None
    if len(content) > max_bytes:
        raise FileRefused(f"{path} is larger than {max_bytes} bytes", f"is larger than {max_bytes} bytes")
    return SmallFile(content, stat.S_IMODE(status.st_mode))
