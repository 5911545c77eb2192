"""Retention: old, finished streams leave the database as a file that can be verified for ever.

Order: export (fsynced, renamed into place), then, in one transaction, note as sealed and delete. A crash between
the two exports a stream twice and loses nothing. The trigger on `records` lets only sealed records go.

An export is gzip of JSON lines, each an array of a record's twelve fields in the order of `Record`, stream by stream.
"""

import gzip
import json
import os
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from journal.port import ChainBroken, JournalError, JournalUnavailable, Record, StreamKey
from journal.reader import Reader
from journal.record import DATA_BYTES_MAX, ChainChecker, Head, verify_chain
from journal.regular import open_regular
from journal.schema import fsync_folder

__all__ = [
    "Expiry",
    "ExportBroken",
    "archive_folder",
    "export_streams",
    "read_export",
    "seal_exported",
    "stamp",
]

# A line is at most the data, escaped once more, and the names.
_LINE_BYTES_MAX = 2 * DATA_BYTES_MAX + 65536
_FIELD_TYPES = (str, int, int, int, str, str, int, str, str, str, str, str)


class ExportBroken(JournalError):
    """An export can't be read as one; names the file and the line."""


@dataclass(frozen=True, slots=True)
class Expiry:
    """What a seal did: `keys` were exported to `path` and dropped; `broken` stay, their chains do not hold."""

    path: Path | None = None
    keys: tuple[StreamKey, ...] = ()
    heads: tuple[Head, ...] = ()
    broken: tuple[ChainBroken, ...] = ()


def stamp(now_ns: int) -> str:
    """Return a time as it stands in file names: UTC, to the microsecond."""
    return datetime.fromtimestamp(now_ns // 1000 / 1e6, UTC).strftime("%Y%m%dT%H%M%S.%fZ")


def archive_folder(journal: Path) -> Path:
    """Return where the streams exported from the journal at `journal` lie: beside it."""
    return journal.parent / "journal-archive"


def export_streams(reader: Reader, keys: Sequence[StreamKey], folder: Path, now_ns: int) -> Expiry:
    """Write the streams `keys` to a new file in `folder` (made if missing, mode 0700; the file 0600), durably.

    Raises:
        JournalUnavailable: the file could not be written.

    """
    whole: list[tuple[StreamKey, Head]] = []
    broken: list[ChainBroken] = []
    path = folder / f"journal-{stamp(now_ns)}.jsonl.gz"
    partial = path.with_name(path.name + ".partial")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        fsync_folder(folder.parent)  # a power cut must not take the folder, and with it what is dropped below
        fd = os.open(partial, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(fd, "wb") as raw:
            with gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=6, mtime=0) as packed:
                for key in dict.fromkeys(keys):
                    records = reader.stored(key)
                    try:
                        heads = verify_chain(records)
                    except ChainBroken as error:
                        broken.append(error)
                        continue
                    if key in heads:
                        packed.writelines(_line(record) for record in records)
                        whole.append((key, heads[key]))
            raw.flush()
            os.fsync(raw.fileno())
        if not whole:
            partial.unlink()
            return Expiry(broken=tuple(broken))
        if path.exists():
            raise FileExistsError(f"{path.name} is there already")
        partial.rename(path)
        fsync_folder(folder)
    except OSError as error:
        with suppress(OSError):  # what hindered the export may hinder this; a later one starts it afresh
            partial.unlink(missing_ok=True)
        raise JournalUnavailable(f"{path}: the export failed, so nothing was dropped: {error}") from error
    return Expiry(path, tuple(key for key, _ in whole), tuple(head for _, head in whole), tuple(broken))


def _line(record: Record) -> bytes:
    return json.dumps(astuple(record), ensure_ascii=True, separators=(",", ":")).encode() + b"\n"


def seal_exported(conn: sqlite3.Connection, exported: Expiry, now_ns: int) -> Expiry:
    """Note the exported streams as sealed and delete their records, inside the caller's transaction.

    A stream that has grown since its export is left alone; the answer names those that were dropped.

    Raises:
        sqlite3.Error: it could not be done.

    """
    assert exported.path is not None
    dropped: list[tuple[StreamKey, Head]] = []
    for key, head in zip(exported.keys, exported.heads, strict=True):
        (last,) = conn.execute(
            "SELECT max(seq) FROM records WHERE job_id = ? AND attempt = ?", key
        ).fetchone()
        if last != head.seq:
            continue
        conn.execute(
            "INSERT INTO sealed (job_id, attempt, last_seq, last_hash, sealed_ns, export) VALUES (?, ?, ?, ?, ?, ?)",
            (*key, head.seq, bytes.fromhex(head.hash), now_ns, exported.path.name),
        )
        conn.execute("DELETE FROM records WHERE job_id = ? AND attempt = ?", key)
        dropped.append((key, head))
    return replace(exported, keys=tuple(key for key, _ in dropped), heads=tuple(head for _, head in dropped))


def read_export(path: Path) -> Iterator[Record]:
    """Iterate over an export's records as stored, each verified: a file that ends well holds every chain.

    Raises:
        ChainBroken: names the first record that does not hold.
        ExportBroken: a line is no record, or the file is cut short.
        OSError: it can't be opened, or is no regular file.

    """
    checker = ChainChecker()
    number = 0
    with (
        os.fdopen(open_regular(path), "rb") as packed,
        gzip.GzipFile(fileobj=packed, mode="rb") as lines,
    ):
        try:
            while line := lines.readline(_LINE_BYTES_MAX):
                number += 1
                record = _parse(line)
                checker.check(record)
                yield record
        except (ValueError, RecursionError, EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ExportBroken(f"{path}: after line {number}: {error}") from error


def _parse(line: bytes) -> Record:
    fields = cast("list[Any]", json.loads(line))
    if type(fields) is not list or tuple(map(type, fields)) != _FIELD_TYPES:
        raise ValueError("not the twelve fields of a record")
    return Record(*fields)
