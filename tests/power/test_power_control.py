"""The cut is real: what nobody made durable is gone, what somebody did is there. So the other tests can fail."""

import os
import sqlite3
from contextlib import closing


def test_what_was_synced_is_there_and_what_was_not_is_gone(disk):
    (disk.path / "unsynced").write_bytes(b"x" * 9000)
    with (disk.path / "synced").open("wb") as file:
        file.write(b"y" * 9000)
        file.flush()
        os.fsync(file.fileno())
    (disk.path / "later").write_bytes(b"z" * 9000)
    (disk.path / "synced").rename(disk.path / "renamed")
    disk.cut()
    disk.power_on()
    assert (disk.path / "synced").read_bytes() == b"y" * 9000
    assert not (disk.path / "renamed").exists()
    assert not (disk.path / "later").exists()
    lost = disk.path / "unsynced"
    assert not lost.exists() or lost.read_bytes() != b"x" * 9000


def test_a_database_that_does_not_sync_loses_what_it_had_committed(disk):
    found = {}
    for mode in ("FULL", "OFF"):
        path = disk.path / f"{mode}.db"
        with closing(sqlite3.connect(path, isolation_level=None)) as conn:
            conn.execute("PRAGMA journal_mode = WAL")
            conn.execute("PRAGMA synchronous = FULL")
            conn.execute("CREATE TABLE t (n)")
            conn.execute(f"PRAGMA synchronous = {mode}")
            for n in range(20):
                conn.execute("INSERT INTO t VALUES (?)", (n,))
            if mode == "OFF":
                disk.cut()
    disk.power_on()
    for mode in ("FULL", "OFF"):
        with closing(sqlite3.connect(disk.path / f"{mode}.db")) as conn:
            found[mode] = conn.execute("SELECT count(*) FROM t").fetchone()[0]
    assert found["FULL"] == 20
    assert found["OFF"] < 20
