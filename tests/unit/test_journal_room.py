"""The log of the journal is kept larger than it needs to be, so that a full disk takes records for a while."""

import asyncio
import os
import sqlite3
from contextlib import closing

import pytest

from journal.opening import open_journal
from journal.port import Entry, StreamKey
from journal.reader import open_reader
from journal.room import ROOM_BYTES, keep_room
from journal.schema import connect_writer

KEY = StreamKey("j-1", 1)
GIB = 1 << 30


def entries(number):
    return [Entry("Offered", 1, "IDLE", "PULLING", {"n": number, "text": "x" * 500})]


def log_of(path):
    return path.with_name(f"{path.name}-wal")


def free(monkeypatch, size):
    real = os.statvfs

    def less(path):
        found = list(real(path))
        found[4], found[1] = size, 1  # f_bavail, f_frsize
        return os.statvfs_result(found)

    monkeypatch.setattr(os, "statvfs", less)


async def appended(path, count):
    journal, _ = open_journal(path, boot_id="b", now_ns=iter(range(1, 10**9)).__next__)
    try:
        for number in range(count):
            await journal.append(KEY, number, entries(number))
        return log_of(path).stat()
    finally:
        await journal.close()


def test_the_log_has_its_room_from_the_first_record_on_and_the_records_are_read(tmp_path):
    path = tmp_path / "journal.db"
    about = asyncio.run(appended(path, 3))
    assert about.st_size == ROOM_BYTES
    assert about.st_blocks * 512 >= ROOM_BYTES  # taken from the disk, not merely announced
    with open_reader(path) as reader:
        assert [record.data["n"] for record in reader.read(KEY)] == [0, 1, 2]
        reader.verify()


def test_who_comes_after_a_power_cut_finds_the_records_before_the_room(tmp_path):
    path = tmp_path / "journal.db"

    async def go():
        journal, _ = open_journal(path, boot_id="b", now_ns=iter(range(1, 10**9)).__next__)
        await journal.append(KEY, 0, entries(7))
        copy = tmp_path / "copy"
        copy.mkdir()
        for suffix in ("", "-wal"):  # as a power cut leaves them: no index of the log
            name = f"{path.name}{suffix}"
            (copy / name).write_bytes((tmp_path / name).read_bytes())
        await journal.close()
        return copy / path.name

    async def read(copy):
        journal, salvage = open_journal(copy, boot_id="b", now_ns=iter(range(1, 10**9)).__next__)
        try:
            journal.verify()
            return [record.data["n"] for record in journal.read(KEY)], salvage
        finally:
            await journal.close()

    assert asyncio.run(read(asyncio.run(go()))) == ([7], None)


@pytest.mark.parametrize("left", [0, 2 * ROOM_BYTES - 1])
def test_what_little_there_is_on_a_disk_is_left_to_others(tmp_path, monkeypatch, left):
    free(monkeypatch, left)
    assert asyncio.run(appended(tmp_path / "journal.db", 1)).st_size < ROOM_BYTES // 10


def test_what_the_disk_refuses_halfway_is_given_back(tmp_path, monkeypatch):
    path = tmp_path / "journal.db"
    log = log_of(path)
    log.write_bytes(b"frames")
    free(monkeypatch, GIB)

    def refuse(fd, offset, length):
        os.ftruncate(fd, offset + length // 2)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    keep_room(path)
    assert log.read_bytes() == b"frames"


def test_no_log_and_one_that_is_large_enough_are_left_alone(tmp_path):
    path = tmp_path / "journal.db"
    keep_room(path)
    assert list(tmp_path.iterdir()) == []
    with closing(connect_writer_of(path)) as conn:
        conn.execute("BEGIN IMMEDIATE")
        keep_room(path)
        assert (
            log_of(path).stat().st_size == 0
        )  # without its beginning it would be taken for one that nobody uses
        conn.execute("CREATE TABLE t (x)")
        conn.execute("COMMIT")
        conn.execute("BEGIN IMMEDIATE")
        keep_room(path)
        assert log_of(path).stat().st_size == ROOM_BYTES
        before = log_of(path).stat()
        keep_room(path)
        assert log_of(path).stat().st_mtime_ns == before.st_mtime_ns
        conn.execute("ROLLBACK")


def connect_writer_of(path):
    with closing(sqlite3.connect(path)):
        pass
    path.touch()
    return connect_writer(path, busy_s=1.0)
