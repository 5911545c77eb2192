"""A result as multipart/form-data (RFC 7578), streamed from open files.

The length is known before the first byte is sent. Files are read with pread, so that sending again reads
the same bytes, and nothing is closed here.
"""

import asyncio
import os
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import httpx

from fsm_miner.coordinator.port import UploadFile

__all__ = ["CHUNK_BYTES", "SMALL_BYTES", "FileChanged", "Multipart", "multipart"]

CHUNK_BYTES = 256 * 1024
SMALL_BYTES = 256 * 1024

_TOKEN_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+/;= -]{3,400}")


class FileChanged(Exception):
    """A file ended before the size that was measured when it was opened."""


@dataclass(frozen=True, slots=True)
class Multipart:
    """A body whose `parts` are bytes or files; `length` is its exact size in bytes."""

    content_type: str
    parts: tuple[bytes | UploadFile, ...]
    length: int

    def stream(self) -> httpx.AsyncByteStream:
        """Return the body to send: one piece where it is small, else read as it goes.

        Raises:
            FileChanged: a file of a small body is shorter than its `size`.
            OSError: such a file could not be read.

        """
        if self.length <= SMALL_BYTES:
            return httpx.ByteStream(b"".join(self._small_pieces()))
        return _Streamed(self.parts)

    def _small_pieces(self) -> Iterator[bytes]:
        for part in self.parts:
            yield part if isinstance(part, bytes) else _read_whole(part)


def multipart(
    boundary: str,
    fields: tuple[tuple[str, str], ...],
    files: tuple[tuple[str, UploadFile], ...],
) -> Multipart:
    """Lay out a form: `fields` (name, text), then `files` (field name, file), in this order.

    `boundary` must be unguessable: whoever knows it could write a form of his own into a file.
    """
    parts: list[bytes | UploadFile] = []
    for name, text in fields:
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'
        parts.append(f"{head}{text}\r\n".encode())
    for name, file in files:
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{_quoted(file.filename)}"\r\n'
            f"Content-Type: {_media_type(file.content_type)}\r\n\r\n"
        )
        parts.extend((head.encode(), file, b"\r\n"))
    parts.append(f"--{boundary}--\r\n".encode())
    length = sum(len(part) if isinstance(part, bytes) else part.size for part in parts)
    return Multipart(f"multipart/form-data; boundary={boundary}", tuple(parts), length)


def _quoted(filename: str) -> str:
    """Percent-encode what would end the quoted string or the line (WHATWG HTML, multipart/form-data)."""
    safe = filename.encode("utf-8", errors="replace").decode("utf-8")
    return "".join(
        f"%{ord(char):02X}" if char in '"\\' or ord(char) < 32 or ord(char) == 127 else char for char in safe
    )


def _media_type(value: str) -> str:
    return value if _TOKEN_TYPE.fullmatch(value) else "application/octet-stream"


def _read(file: UploadFile, offset: int) -> bytes:
    chunk = os.pread(file.fd, min(CHUNK_BYTES, file.size - offset), offset)
    if not chunk:
        raise FileChanged(f"{file.filename!a} ended at byte {offset} of {file.size} while it was being sent")
    return chunk


def _read_whole(file: UploadFile) -> bytes:
    chunks: list[bytes] = []
    offset = 0
    while offset < file.size:
        chunks.append(_read(file, offset))
        offset += len(chunks[-1])
    return b"".join(chunks)


class _Streamed(httpx.AsyncByteStream):
    """The parts one after the other; a disk that stalls does not stall the event loop."""

    def __init__(self, parts: tuple[bytes | UploadFile, ...]) -> None:
        self._parts = parts

    def __aiter__(self) -> AsyncIterator[bytes]:
        return _Pieces(self._parts)


class _Pieces:
    # Not an async generator: one that is abandoned half-way must be closed by somebody, this need not.
    def __init__(self, parts: tuple[bytes | UploadFile, ...]) -> None:
        self._parts = iter(parts)
        self._file: UploadFile | None = None
        self._offset = 0

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while True:
            if self._file is not None and self._offset < self._file.size:
                chunk = await asyncio.to_thread(_read, self._file, self._offset)
                self._offset += len(chunk)
                return chunk
            self._file = None
            part = next(self._parts, None)
            if part is None:
                raise StopAsyncIteration
            if isinstance(part, bytes):
                return part
            self._file, self._offset = part, 0
