"""Where allowlist files lie: entries of the configuration become files, and files bytes, both bounded."""

import fnmatch
import glob
import os
import stat
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

__all__ = ["FILES_MAX", "FileGone", "FileUnreadable", "Found", "expand", "folders", "read_bounded"]

FILES_MAX = 256
"""The most allowlist files that are read."""

_SUFFIXES = (".yaml", ".yml")


class FileGone(Exception):
    """There is no such file (any more)."""


class FileUnreadable(Exception):
    """The file is there, and cannot be read. `str()` names it and says why."""


@dataclass(frozen=True, slots=True)
class Found:
    """Files in the order in which they count, each once and absolute; `named` were listed one by one."""

    files: tuple[str, ...]
    named: frozenset[str]
    problems: tuple[str, ...]


def expand(entries: Sequence[str], known: Sequence[str] = ()) -> Found:
    """Turn entries (files, folders, globs) into files. A folder is not searched below its first level.

    A folder that can't be listed is taken to hold what it held when `known` was found.
    """
    files: dict[str, None] = {}
    named: set[str] = set()
    problems: list[str] = []
    for entry in entries:
        path = os.path.abspath(entry)  # noqa: PTH100 - the text of the path, symbolic links left alone
        if _is_glob(path):
            try:
                found = _matching(path)
            except OSError as error:
                problems.append(f"{path}: cannot be listed: {error.strerror}; what was in force stays")
                found = [file for file in known if fnmatch.fnmatch(file, path)]
            files.update(dict.fromkeys(found))
        elif Path(path).is_dir():
            try:
                found = _in_folder(path)
            except OSError as error:
                problems.append(f"{path}: cannot be listed: {error.strerror}; what was in force stays")
                found = [file for file in known if str(Path(file).parent) == path]
            files.update(dict.fromkeys(found))
        else:
            files[path] = None
            named.add(path)
    if len(files) > FILES_MAX:
        problems.append(f"{len(files)} allowlist files; only the first {FILES_MAX} are read")
    return Found(tuple(files)[:FILES_MAX], frozenset(named), tuple(problems))


def folders(entries: Sequence[str]) -> tuple[str, ...]:
    """Return the folders in which a change can matter to `entries`, sorted; they need not exist.

    That is a file's parent, a folder and its parent, and a glob's part before the first wildcard.
    """
    found: set[str] = set()
    for entry in entries:
        path = Path(os.path.abspath(entry))  # noqa: PTH100 - as above
        if _is_glob(str(path)):
            found.add(_plain_part(path))
        elif path.is_dir():
            found |= {str(path), str(path.parent)}
        else:
            found.add(str(path.parent))
    return tuple(sorted(found))


def read_bounded(path: str, size_max: int) -> bytes:
    """Read a regular file, `size_max` bytes of it at most. A pipe or a device is never waited for.

    Raises:
        FileGone: there is none.
        FileUnreadable: there is something, and it cannot be read.

    """
    try:
        with open(path, "rb", opener=_open_without_waiting) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise FileUnreadable(f"{path}: not a regular file")
            return file.read(size_max)
    except (FileNotFoundError, NotADirectoryError):
        raise FileGone(path) from None
    except OSError as error:
        raise FileUnreadable(f"{path}: cannot be read: {error.strerror}; see its owner and mode") from None


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)


def _is_glob(path: str) -> bool:
    return glob.has_magic(path)


def _plain_part(path: Path) -> str:
    """Return the part of a glob before its first wildcard."""
    plain = path.parent
    while _is_glob(str(plain)):
        plain = plain.parent
    return str(plain)


def _matching(path: str) -> list[str]:
    """Return what a glob matches; glob itself takes a folder that it can't list for an empty one."""
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(_plain_part(Path(path))):
        return _only_files(glob.iglob(path))  # noqa: PTH207 - hidden files stay out
    return []


def _only_files(paths: Iterable[str]) -> list[str]:
    return sorted(path for path in paths if not Path(path).is_dir())


def _in_folder(folder: str) -> list[str]:
    return _only_files(
        [
            f"{folder}/{name}"
            for name in os.listdir(folder)  # noqa: PTH208 - names, not paths
            if name.endswith(_SUFFIXES) and not name.startswith(".")
        ]
    )
