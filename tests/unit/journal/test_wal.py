"""Whether a write-ahead log holds a transaction, asked of logs that SQLite itself has written."""

import sqlite3
from contextlib import closing

import pytest

from journal import open_reader
from journal.creation import create
from journal.wal import holds_commit


@pytest.fixture
def log(tmp_path):
    """A log of two transactions, as a killed writer leaves it."""
    with closing(sqlite3.connect(tmp_path / "j.db", isolation_level=None)) as conn:
        conn.execute("PRAGMA journal_mode = WAL")
        conn.execute("CREATE TABLE t (x)")
        conn.execute("INSERT INTO t VALUES (?)", ("x" * 20000,))
        return (tmp_path / "j.db-wal").read_bytes()


def asked(tmp_path, log):
    path = tmp_path / "asked"
    path.write_bytes(log)
    return holds_commit(path)


def test_a_whole_log_does(tmp_path, log):
    assert asked(tmp_path, log)


@pytest.mark.parametrize("bytes_left", [0, 31, 32, 33, 32 + 24, 32 + 24 + 4095])
def test_a_log_without_a_whole_transaction_does_not(tmp_path, log, bytes_left):
    assert not asked(tmp_path, log[:bytes_left])


@pytest.mark.parametrize("at", [0, 9, 16, 24, 32, 40, 48, 60, 4000])
def test_nor_does_one_whose_first_frames_do_not_hold(tmp_path, log, at):
    torn = bytearray(log)
    torn[at] ^= 0xFF
    assert not asked(tmp_path, bytes(torn))


def test_beside_a_log_of_nothing_but_its_header_the_database_is_read_at_once(tmp_path, log):
    path = tmp_path / "k.db"
    create(path, 1)
    path.with_name("k.db-wal").write_bytes(log[:32])
    path.with_name("k.db-shm").write_bytes(bytes(32768))
    with open_reader(path) as reader:
        assert reader.verify() == {}
    assert path.with_name("k.db-wal").read_bytes() == log[:32]
