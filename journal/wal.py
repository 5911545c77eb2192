"""A look into SQLite's write-ahead log: whether it holds a transaction at all.

SQLite can't read through a log that holds none while nobody has the database open for writing: it waits 10 s for a
writer that is not there, and fails (SQLITE_PROTOCOL). A power cut leaves such logs: the header, and no whole frame.
The database beside it is complete then. Format: https://www.sqlite.org/fileformat2.html#the_write_ahead_log
"""

import os
import struct
from pathlib import Path

from journal.regular import open_regular

__all__ = ["holds_commit"]

_HEADER_BYTES = 32
_FRAME_BYTES = 24
_MAGIC = 0x377F0682
# A first transaction is some pages long. Whoever finds more frames than this before its end leaves it to SQLite.
_FRAMES_MAX = 4096
_PAGE_SIZES = frozenset(1 << n for n in range(9, 17))


def holds_commit(log: Path) -> bool:
    """Tell whether the log has a valid frame that ends a transaction. Reads up to the first one.

    Raises:
        OSError: it can't be read, or is no regular file.

    """
    with os.fdopen(open_regular(log), "rb") as file:
        header = file.read(_HEADER_BYTES)
        if len(header) < _HEADER_BYTES:
            return False
        magic, _, page_bytes, _, salts, *sums = struct.unpack(">IIII8sII", header)
        if magic & ~1 != _MAGIC or page_bytes not in _PAGE_SIZES:
            return False
        order = ">" if magic & 1 else "<"
        so_far = _checksum(order, header[:24], (0, 0))
        if so_far != tuple(sums):
            return False
        for _ in range(_FRAMES_MAX):
            frame = file.read(_FRAME_BYTES + page_bytes)
            if len(frame) < _FRAME_BYTES + page_bytes or frame[8:16] != salts:
                return False
            so_far = _checksum(order, frame[:8] + frame[_FRAME_BYTES:], so_far)
            if struct.pack(">II", *so_far) != frame[16:24]:
                return False
            if frame[4:8] != bytes(4):
                return True
    return True


def _checksum(order: str, data: bytes, so_far: tuple[int, int]) -> tuple[int, int]:
    first, second = so_far
    for one, other in struct.iter_unpack(f"{order}II", data):
        first = (first + one + second) & 0xFFFFFFFF
        second = (second + other + first) & 0xFFFFFFFF
    return first, second
