"""Resumable uploads: tus 1.0.0 with creation, checksum (sha256) and termination.

The offset in the database is the truth: bytes behind it in the file are cut off when the next PATCH starts.
A chunk with a checksum counts as a whole or not at all; without one, what arrived before a break counts.
A newer PATCH takes the upload over from an older one, whose connection may be half dead.
"""

import base64
import binascii
import hashlib
import hmac
import os
import secrets
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO

from coordinator_checks import JOB_ID, Refusal, safe_path

__all__ = ["Uploads", "link_or_replace", "parse_metadata", "sha256_file"]

COMMIT_BYTES = 4 * 1024 * 1024
CHECKSUM_MISMATCH = 460


def parse_metadata(header: str) -> dict[str, str]:
    """Decode `Upload-Metadata`: `key base64, key base64`."""
    metadata: dict[str, str] = {}
    for pair in filter(None, (part.strip() for part in header.split(","))):
        key, _, value = pair.partition(" ")
        try:
            metadata[key] = base64.b64decode(value, validate=True).decode()
        except ValueError as error:
            raise Refusal(400, f"Upload-Metadata: {key[:40]!r}: not base64 of UTF-8") from error
    return metadata


class Uploads:
    """The uploads of all nodes; files in `folder`, named by the upload's id."""

    def __init__(self, db: sqlite3.Connection, folder: Path, bytes_max: int) -> None:
        self._db = db
        self._folder = folder
        self.bytes_max = bytes_max
        self._writers: dict[str, object] = {}

    def create(self, node_id: str, length: int, metadata: dict[str, str], key: str | None) -> str:
        """Begin an upload of `length` bytes; returns its id, the same one for the same idempotency key."""
        if not 0 <= length <= self.bytes_max:
            raise Refusal(413, f"Upload-Length: at most {self.bytes_max} bytes")
        job_id, sha256 = metadata.get("job_id", ""), metadata.get("sha256", "")
        if not JOB_ID.fullmatch(job_id) or len(sha256) != 64:
            raise Refusal(422, "Upload-Metadata: job_id, path and sha256 (hex) are needed")
        path = safe_path(metadata.get("path", ""))
        scoped = None if key is None else f"{node_id} {key} {path}"
        known = self._db.execute(
            "SELECT upload_id FROM uploads WHERE key = ? AND length = ? AND sha256 = ?",
            (scoped, length, sha256),
        ).fetchone()
        if known is not None:
            return known["upload_id"]
        upload_id = secrets.token_hex(16)
        (self._folder / upload_id).touch(mode=0o600, exist_ok=False)
        self._db.execute(
            "INSERT OR REPLACE INTO uploads VALUES (?, ?, ?, ?, ?, ?, 0, ?)",
            (upload_id, node_id, job_id, path, sha256, length, scoped),
        )
        return upload_id

    def get(self, upload_id: str, node_id: str) -> sqlite3.Row:
        """Return the upload's row; 404 for another node's."""
        row = self._db.execute(
            "SELECT * FROM uploads WHERE upload_id = ? AND node_id = ?", (upload_id, node_id)
        ).fetchone()
        if row is None:
            raise Refusal(404, "no such upload")
        return row

    def delete(self, upload_id: str, node_id: str) -> None:
        """End an upload and remove its bytes."""
        self.get(upload_id, node_id)
        self._writers.pop(upload_id, None)
        self._db.execute("DELETE FROM uploads WHERE upload_id = ?", (upload_id,))
        (self._folder / upload_id).unlink(missing_ok=True)

    async def patch(
        self, upload_id: str, node_id: str, offset: int, checksum: str | None, chunks: AsyncIterator[bytes]
    ) -> int:
        """Append a chunk; returns the new offset. What a break of `chunks` leaves is described above."""
        row = self.get(upload_id, node_id)
        if offset != row["offset"]:
            raise Refusal(409, f"Upload-Offset: the upload stands at {row['offset']}")
        expected = None if checksum is None else _sha256_of(checksum)
        turn = object()
        self._writers[upload_id] = turn
        try:
            with (self._folder / upload_id).open("r+b") as file:
                file.truncate(offset)
                file.seek(offset)
                if expected is None:
                    return await self._append_as_it_comes(row, file, turn, chunks)
                return await self._append_checked(row, file, turn, chunks, expected)
        finally:
            if self._writers.get(upload_id) is turn:
                del self._writers[upload_id]

    async def _append_as_it_comes(
        self, row: sqlite3.Row, file: IO[bytes], turn: object, chunks: AsyncIterator[bytes]
    ) -> int:
        offset = committed = row["offset"]
        try:
            async for chunk in chunks:
                self._check(row, turn, offset + len(chunk))
                file.write(chunk)
                offset += len(chunk)
                if offset - committed >= COMMIT_BYTES:
                    committed = self._commit(row, file, offset)
        finally:
            if self._writers.get(row["upload_id"]) is turn:
                self._commit(row, file, offset)
        return offset

    async def _append_checked(
        self, row: sqlite3.Row, file: IO[bytes], turn: object, chunks: AsyncIterator[bytes], expected: bytes
    ) -> int:
        offset, digest = row["offset"], hashlib.sha256()
        async for chunk in chunks:
            self._check(row, turn, offset + len(chunk))
            file.write(chunk)
            digest.update(chunk)
            offset += len(chunk)
        if not hmac.compare_digest(digest.digest(), expected):
            raise Refusal(CHECKSUM_MISMATCH, "Upload-Checksum: the chunk's bytes have another SHA-256")
        self._check(row, turn, offset)
        return self._commit(row, file, offset)

    def _check(self, row: sqlite3.Row, turn: object, offset: int) -> None:
        if self._writers.get(row["upload_id"]) is not turn:
            raise Refusal(423, "a newer PATCH took this upload over")
        if offset > row["length"]:
            raise Refusal(413, f"more than the declared {row['length']} bytes")

    def _commit(self, row: sqlite3.Row, file: IO[bytes], offset: int) -> int:
        file.flush()
        self._db.execute("UPDATE uploads SET offset = ? WHERE upload_id = ?", (offset, row["upload_id"]))
        return offset

    def claim(self, url: str, node_id: str, job_id: str, path: str) -> tuple[Path, int]:
        """Return file and size of the finished upload that a result names. Raises Refusal."""
        row = self.get(url.rstrip("/").rpartition("/")[2], node_id)
        if row["offset"] != row["length"] or (row["job_id"], row["path"]) != (job_id, path):
            raise Refusal(422, f"{path}: its upload is not finished, or belongs to another job or path")
        return self._folder / row["upload_id"], row["length"]


def sha256_file(path: Path) -> str:
    """Hash a file; to be called in a thread."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def link_or_replace(source: Path, target: Path) -> None:
    """Put the upload's bytes at `target`, leaving the upload where it is for a repeated delivery."""
    staged = target.with_name(f".{secrets.token_hex(8)}")
    os.link(source, staged)
    staged.replace(target)


def _sha256_of(checksum: str) -> bytes:
    algorithm, _, encoded = checksum.partition(" ")
    try:
        digest = base64.b64decode(encoded, validate=True)
    except binascii.Error as error:
        raise Refusal(400, "Upload-Checksum: not base64") from error
    if algorithm != "sha256" or len(digest) != 32:
        raise Refusal(400, "Upload-Checksum: sha256 is the one algorithm here")
    return digest
