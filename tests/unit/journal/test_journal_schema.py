"""Migrations go forward only and are one transaction: whatever happens in the middle, the old schema or the new."""

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest

from journal import Entry, SqliteJournal, StreamKey, open_reader
from journal.creation import create
from journal.queries import EXPIRED
from journal.queries import FINAL as FINAL_QUERY
from journal.queries import FIRST as FIRST_QUERY
from journal.schema import FINAL_STATES, NEWEST, connect_writer, migrate, note, schema_version
from states.table import FINAL

OLD = Path(__file__).parents[2] / "golden" / "0.1.0-schema-1" / "journal.db"
# Forks before each statement; the child is killed there. Prints, for each, the schema that is found afterwards.
KILLED = """
import os, shutil, signal, sqlite3, sys
from contextlib import closing
from pathlib import Path
from journal import open_reader
from journal.schema import connect_writer, migrate

old, folder = Path(sys.argv[1]), Path(sys.argv[2])
at = 0
while True:
    at += 1
    path = folder / f"{at}.db"
    shutil.copyfile(old, path)
    child = os.fork()
    if child == 0:
        conn = connect_writer(path, busy_s=5.0)
        left = at
        def trace(_statement):
            global left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        conn.set_trace_callback(trace)
        migrate(conn, 1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    with open_reader(path) as reader:
        print(reader.schema, reader.damage(chains=True), sum(1 for _ in reader.records()), flush=True)
    if os.waitstatus_to_exitcode(status) == 0:
        break
"""


def old_copy(tmp_path):
    path = tmp_path / "j.db"
    shutil.copyfile(OLD, path)
    return path


def test_a_kill_before_any_statement_leaves_the_old_or_the_new(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(OLD), str(tmp_path)], capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    assert len(lines) > 8, "the migration has more statements than that"
    assert lines[-1] == f"{NEWEST} None 128"
    assert set(lines[:-1]) == {"1 None 128"}


def test_an_error_in_any_statement_leaves_the_old(tmp_path):
    wanted = {sqlite3.SQLITE_INSERT, sqlite3.SQLITE_CREATE_INDEX, sqlite3.SQLITE_CREATE_TABLE}
    denied = 0
    while True:
        asked = 0

        def refuse(action, *_, denied=denied):
            nonlocal asked
            asked += action in wanted
            return sqlite3.SQLITE_DENY if action in wanted and asked == denied + 1 else sqlite3.SQLITE_OK

        with closing(connect_writer(old_copy(tmp_path), busy_s=5.0)) as conn:
            conn.set_authorizer(refuse)
            try:
                migrate(conn, 1)
            except sqlite3.Error:
                conn.set_authorizer(None)
                assert not conn.in_transaction
                assert schema_version(conn) == 1
                denied += 1
            else:
                assert schema_version(conn) == NEWEST
                break
    assert denied > 5


def test_the_old_schema_is_read_as_it_is_and_nothing_changes(tmp_path):
    path = old_copy(tmp_path)
    with open_reader(path) as reader:
        assert (reader.schema, reader.notes()) == (1, {})
        assert len(reader.verify()) == 16
    assert path.read_bytes() == OLD.read_bytes()
    assert [one.name for one in tmp_path.iterdir()] == ["j.db"]


def test_an_old_journal_made_new_is_like_one_that_was_always_new(tmp_path):
    create(old_copy(tmp_path), 1)
    create(tmp_path / "fresh.db", 1)
    schemas = []
    for name in ("j.db", "fresh.db"):
        with closing(sqlite3.connect(tmp_path / name)) as conn:
            schemas.append(conn.execute("SELECT type, name, sql FROM sqlite_master ORDER BY name").fetchall())
    assert schemas[0] == schemas[1]


def test_notes_are_kept_and_replaced(tmp_path):
    path = tmp_path / "j.db"
    create(path, 1, notes={"a": "1", "b": "2"})
    create(path, 2, notes={"a": "3"})
    with open_reader(path) as reader:
        assert reader.notes() == {"a": "3", "b": "2"}


def test_notes_come_all_or_none(tmp_path):
    path = tmp_path / "j.db"
    create(path, 1)
    with closing(connect_writer(path, busy_s=1.0)) as conn:
        with pytest.raises(sqlite3.IntegrityError):
            note(conn, {"a": "1", "b": None})
        assert not conn.in_transaction
    with open_reader(path) as reader:
        assert reader.notes() == {}


def test_the_schema_and_the_table_agree_on_what_is_final():
    assert set(FINAL_STATES) == FINAL


def test_ends_are_found_by_their_indexes_alone(tmp_path):
    path = old_copy(tmp_path)
    create(path, 1)
    with open_reader(path) as reader, closing(sqlite3.connect(path)) as conn:
        over, open_keys = reader.ends()
        plans = [
            conn.execute(f"EXPLAIN QUERY PLAN {query}", (0,) * query.count("?")).fetchall()
            for query in (FIRST_QUERY, FINAL_QUERY, EXPIRED)
        ]
        assert all("COVERING INDEX" in plan[0][-1] for plan in plans), plans
        assert sorted([one.key for one in over] + open_keys) == sorted(reader.streams())
        for key in open_keys:
            assert reader.stored(key)[-1].dest not in FINAL
        for one in over:
            last = reader.stored(one.key)[-1]
            assert (last.dest, last.at_ns) == (one.dest, one.at_ns)


def test_slices_by_key_have_every_record_once(tmp_path):
    with open_reader(old_copy(tmp_path)) as reader:
        whole = list(reader.by_stream())
        found, key, seq = [], StreamKey("", -1), 0
        while records := reader.after(key, seq, 7):
            found += records
            key, seq = records[-1].key, records[-1].seq
        assert found == whole
        assert sorted(whole, key=lambda r: (r.key, r.seq)) == whole
        assert len(whole) == 128


def test_an_append_that_finds_damage_says_so(tmp_path):
    path = tmp_path / "j.db"

    async def main():
        journal = SqliteJournal(path, boot_id="b", now_ns=count(1).__next__)
        entry = [Entry("E", 1, "A", "B", {"pad": "x" * 3000})]
        for seq in range(60):
            await journal.append(StreamKey("j", 1), seq, entry)
        await journal.close()
        with closing(sqlite3.connect(path)) as conn:
            (page,) = conn.execute("SELECT rootpage FROM sqlite_master WHERE name = 'records'").fetchone()
        with path.open("r+b") as file:
            file.seek((page - 1) * 4096)
            file.write(os.urandom(4096))
        journal = SqliteJournal(path, boot_id="b", now_ns=count(1).__next__)
        assert journal.damage is None
        failed = await asyncio.gather(journal.append(StreamKey("k", 1), 0, entry), return_exceptions=True)
        await asyncio.wait_for(journal.damaged.wait(), 5)
        await journal.close()
        return failed[0], journal.damage

    error, damage = asyncio.run(main())
    assert type(error).__name__ == "JournalDamaged"
    assert str(error) == damage
    assert "malformed" in damage


def test_a_query_that_is_interrupted_ends(tmp_path):
    with open_reader(old_copy(tmp_path)) as reader:
        rows = reader.by_stream()
        next(rows)
        reader.interrupt()
        assert reader.damage(chains=False) is None, "an interrupt ends what runs, not what comes after"
