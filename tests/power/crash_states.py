"""What a disk may hold after a power cut, built from the trace of what a program did to it (trace.c).

Only fsync(2) orders anything. Of the bytes written since a file's last one, any may be there, sector by sector; of
the names made, taken or changed since a folder's last one, any. A name without its bytes is a file of any length that
it had meanwhile. No file system is quite that bad; whoever gets along with this one gets along with all of them.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

CREATE, WRITE, TRUNCATE, SYNC, RENAME, UNLINK, MARK, FOLDER = range(1, 9)
SECTOR = 512


@dataclass(frozen=True)
class Step:
    """One call. `name` is relative to the traced folder, which is "" itself; `data` is a rename's new name."""

    kind: int
    inode: int
    offset: int
    name: str
    data: bytes


def read_trace(path: Path) -> list[Step]:
    """Return the calls in order."""
    raw, at, steps = path.read_bytes(), 0, []
    while at < len(raw):
        kind, inode, offset = struct.unpack_from("<BQQ", raw, at)
        at += 17
        parts = []
        for _ in range(2):
            (length,) = struct.unpack_from("<I", raw, at)
            parts.append(raw[at + 4 : at + 4 + length])
            at += 4 + length
        steps.append(Step(kind, inode, offset, parts[0].decode(), parts[1]))
    return steps


@dataclass(eq=False)
class File:
    """Bytes that are safe, and calls since; a folder has none."""

    safe: bytes = b""
    since: list[Step] = field(default_factory=list)
    folder: bool = False

    def sync(self) -> None:
        content = bytearray(self.safe)
        for step in self.since:
            _apply(content, step)
        self.safe, self.since = bytes(content), []

    def after(self, chance: Random, fate: str) -> bytes:
        """Return what a cut may leave of it."""
        content = bytearray(self.safe)
        some = chance.randrange(len(self.since) + 1)
        for number, step in enumerate(self.since):
            if fate == "all" or (fate == "first" and number < some):
                _apply(content, step)
            elif fate in {"any", "first"} and (fate == "any" or number == some):
                for piece in _pieces(step):
                    if chance.random() < 0.5:
                        _apply(content, piece)
        return bytes(content)


def _apply(content: bytearray, step: Step) -> None:
    if step.kind == TRUNCATE:
        del content[step.offset :]
        content.extend(bytes(step.offset - len(content)))
    else:
        content.extend(bytes(max(0, step.offset - len(content))))
        content[step.offset : step.offset + len(step.data)] = step.data


def _pieces(step: Step) -> Iterator[Step]:
    """Take a write apart at the sectors of the disk."""
    if step.kind == TRUNCATE:
        yield step
        return
    at = 0
    while at < len(step.data):
        length = min(len(step.data) - at, SECTOR - (step.offset + at) % SECTOR)
        yield Step(WRITE, step.inode, step.offset + at, step.name, step.data[at : at + length])
        at += length


Change = tuple[str, str, File]
"""(name that goes, or "", name that comes, or "", the file)."""


class Disk:
    """Follows a trace; `left` says what a cut now would leave. What is in `start` is safe."""

    def __init__(self, start: Path) -> None:
        self.marks: list[bytes] = []
        self._files: dict[int, File] = {}
        self._now: dict[str, File] = {}
        self._safe: dict[str, File] = {}
        self._changes: dict[str, list[Change]] = {}
        for path in sorted(start.iterdir()):
            file = File(path.read_bytes())
            self._files[path.stat().st_ino] = file
            self._now[path.name] = self._safe[path.name] = file

    def follow(self, step: Step) -> None:
        """Let a call happen."""
        match step.kind:
            case 1 | 8:
                file = self._files[step.inode] = File(folder=step.kind == FOLDER)
                self._now[step.name] = file
                self._change(("", step.name, file))
            case 2 | 3:
                self._files[step.inode].since.append(step)
            case 4 if step.name == "" or self._files[step.inode].folder:
                for change in self._changes.pop(step.name, []):
                    _rename(self._safe, change)
            case 4:
                self._files[step.inode].sync()
            case 5:
                to = step.data.decode()
                file = self._now[to] = self._now.pop(step.name)
                self._change((step.name, to, file))
            case 6:
                self._change((step.name, "", self._now.pop(step.name)))
            case 7:
                self.marks.append(step.data)

    def _change(self, change: Change) -> None:
        self._changes.setdefault((change[0] or change[1]).rpartition("/")[0], []).append(change)

    def left(self, chance: Random, fate: str) -> dict[str, bytes | None]:
        """Return the files that a cut leaves (None: a folder). `fate` is what becomes of what was not safe.

        none: nothing of it is there; all: everything; first: what was done first, the last of it in part; any: any.
        """
        names = dict(self._safe)
        for changes in self._changes.values():
            some = chance.randrange(len(changes) + 1)
            for number, change in enumerate(changes):
                if (
                    fate == "all"
                    or (fate == "first" and number < some)
                    or (fate == "any" and chance.random() < 0.5)
                ):
                    _rename(names, change)
        return {
            name: None if file.folder else file.after(chance, fate)
            for name, file in names.items()
            if name.rpartition("/")[0] in {"", *names}
        }


def _rename(names: dict[str, File], change: Change) -> None:
    goes, comes, file = change
    if goes and names.get(goes) is file:
        del names[goes]
    if comes:
        names[comes] = file
