"""A result's multipart body, taken in as it streams: fields to memory, files to a staging folder, hashed on the way."""

import hashlib
import json
import os
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from coordinator_checks import Refusal, safe_path
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

__all__ = ["LOG_NAME", "Part", "ResultForm"]

LOG_NAME = "logs/exec.log"
FIELD_BYTES_MAX = 1024 * 1024
PARTS_MAX = 1024


@dataclass(slots=True)
class Part:
    """One part. A file has a `path` in the staging folder, a field its `text`."""

    name: str
    filename: str | None
    path: Path | None
    text: bytearray = field(default_factory=bytearray)
    size: int = 0
    digest: Any = field(default_factory=hashlib.sha256, repr=False)


class ResultForm:
    """Reads one body. As a context manager it removes what is still staged when it ends."""

    def __init__(self, staging: Path, content_type: str, body_bytes_max: int) -> None:
        kind, options = parse_options_header(content_type.encode("latin-1", "replace"))
        if kind != b"multipart/form-data" or not options.get(b"boundary"):
            raise Refusal(415, "multipart/form-data with a boundary is needed")
        self.parts: list[Part] = []
        self._staging = staging
        self._prefix = secrets.token_hex(8)
        self._header = bytearray()
        self._value = bytearray()
        self._disposition = b""
        self._file: IO[bytes] | None = None
        self._ended = False
        try:
            self._parser = MultipartParser(
                options[b"boundary"],
                {
                    "on_part_begin": self._part_begin,
                    "on_header_field": self._header_field,
                    "on_header_value": self._header_value,
                    "on_header_end": self._header_end,
                    "on_headers_finished": self._headers_finished,
                    "on_part_data": self._part_data,
                    "on_part_end": self._part_end,
                    "on_end": self._end,
                },
                max_size=body_bytes_max + 1,
            )
        except FormParserError as error:
            raise Refusal(422, f"multipart: {error}") from error
        self._left = body_bytes_max

    def __enter__(self) -> "ResultForm":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
        for part in self.parts:
            if part.path is not None:
                part.path.unlink(missing_ok=True)

    async def read(self, chunks: AsyncIterator[bytes]) -> None:
        """Take in the whole body. Raises Refusal for one that is malformed or too large."""
        try:
            async for chunk in chunks:
                self._left -= len(chunk)
                if self._left < 0:
                    raise Refusal(413, "the result is larger than --result-mb-max allows")
                self._parser.write(chunk)
        except FormParserError as error:
            raise Refusal(422, f"multipart: {error}") from error
        if not self._ended:
            raise Refusal(422, "multipart: ends before its closing boundary")

    def json_field(self, name: str) -> Any:
        """Decode the field `name` as JSON."""
        try:
            return json.loads(self.field(name))
        except ValueError as error:
            raise Refusal(422, f"{name}: not JSON: {error}") from error

    def field(self, name: str) -> str:
        """Return the text of the one field `name`."""
        found = [part for part in self.parts if part.name == name and part.filename is None]
        if len(found) != 1:
            raise Refusal(422, f"{name}: exactly one field of that name is needed, there are {len(found)}")
        try:
            return found[0].text.decode()
        except UnicodeDecodeError as error:
            raise Refusal(422, f"{name}: not UTF-8") from error

    def files(self) -> dict[str, Part]:
        """Return the file parts by file name: artifacts and the log."""
        files = {part.filename: part for part in self.parts if part.filename is not None}
        if len(files) != sum(part.filename is not None for part in self.parts):
            raise Refusal(422, "two parts have the same file name")
        return files

    # The parser's callbacks.

    def _part_begin(self) -> None:
        self._disposition = b""
        if len(self.parts) >= PARTS_MAX:
            raise Refusal(422, f"more than {PARTS_MAX} parts")

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if bytes(self._header).lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._header.clear()
        self._value.clear()

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        name, filename = (_text(options.get(key)) for key in (b"name", b"filename"))
        if not name:
            raise Refusal(422, "a part has no name")
        if filename is None:
            self.parts.append(Part(name, None, None))
            return
        safe_path(filename)
        path = self._staging / f"{self._prefix}-{len(self.parts)}"
        self.parts.append(Part(name, filename, path))
        self._file = open(path, "wb", opener=_private)  # noqa: SIM115 (open until the part ends)

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        part = self.parts[-1]
        piece = memoryview(data)[start:end]
        part.size += len(piece)
        if self._file is not None:
            part.digest.update(piece)
            self._file.write(piece)
        elif part.size > FIELD_BYTES_MAX:
            raise Refusal(413, f"{part.name}: a field of at most {FIELD_BYTES_MAX} bytes is needed")
        else:
            part.text += piece

    def _part_end(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _end(self) -> None:
        self._ended = True


def _text(raw: bytes | None) -> str | None:
    if raw is None:
        return None
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise Refusal(422, "a part's name is not UTF-8") from error


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_EXCL | os.O_NOFOLLOW, 0o600)
