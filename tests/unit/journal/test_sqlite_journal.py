"""What only the SQLite backend promises: durability's mechanics, triggers, back-pressure, other writers."""

import asyncio
import os
import sqlite3
import stat
from contextlib import closing
from itertools import count

import pytest

import journal.sqlite as backend
from journal import (
    AppendConflict,
    Damaged,
    Entry,
    JournalUnavailable,
    SchemaTooNew,
    SqliteJournal,
    StreamKey,
    open_journal,
    open_reader,
)

KEY = StreamKey("j-1", 1)
FACT = [Entry("E", 1, "A", "B", {"x": 1})]


def make(path, **more):
    return SqliteJournal(path, boot_id="b", now_ns=count(1).__next__, **more)


def filled(path, streams=2, length=3):
    async def main():
        journal = make(path)
        for i in range(streams):
            for seq in range(length):
                await journal.append(StreamKey(f"j-{i}", 1), seq, FACT)
        await journal.close()

    asyncio.run(main())


def snapshot(folder):
    return {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.iterdir()}


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE records SET data_json = '{}'",
        "DELETE FROM records",
        "DELETE FROM records WHERE seq = 3",
    ],
)
def test_history_cannot_be_rewritten(tmp_path, statement):
    filled(tmp_path / "j.db")
    with closing(sqlite3.connect(tmp_path / "j.db")) as conn:
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            conn.execute(statement)
        assert conn.execute("SELECT count(*) FROM records").fetchone() == (6,)


def test_the_file_is_private(tmp_path):
    filled(tmp_path / "j.db")
    assert stat.S_IMODE((tmp_path / "j.db").stat().st_mode) == 0o600


def test_a_clean_close_leaves_one_file(tmp_path):
    filled(tmp_path / "j.db")
    assert [p.name for p in tmp_path.iterdir()] == ["j.db"]


def test_a_later_schema_is_refused_and_nothing_changes(tmp_path):
    filled(tmp_path / "j.db")
    with closing(sqlite3.connect(tmp_path / "j.db")) as conn:
        conn.execute("INSERT INTO migrations SELECT 99, 1, schema_sha256 FROM migrations WHERE version = 2")
        conn.execute("PRAGMA user_version = 99")
        conn.commit()
    before = snapshot(tmp_path)
    with pytest.raises(SchemaTooNew, match="schema 99"):
        open_journal(tmp_path / "j.db", boot_id="b", now_ns=count(1).__next__)
    with pytest.raises(SchemaTooNew):
        open_reader(tmp_path / "j.db")
    assert snapshot(tmp_path) == before


def test_a_folder_that_is_not_there_is_unavailable(tmp_path):
    with pytest.raises(JournalUnavailable, match="check"):
        open_journal(tmp_path / "no" / "j.db", boot_id="b", now_ns=count(1).__next__)


def test_another_writer_is_noticed(tmp_path):
    async def main():
        one, two = make(tmp_path / "j.db"), make(tmp_path / "j.db")
        await one.append(KEY, 0, FACT)
        await two.append(KEY, 1, FACT)
        with pytest.raises(AppendConflict, match="has 2 records"):
            await one.append(KEY, 1, FACT)
        await one.append(KEY, 2, FACT)
        read = two.read(KEY)
        await one.close()
        await two.close()
        return [r.seq for r in read]

    assert asyncio.run(main()) == [1, 2, 3]


def test_a_busy_database_fails_the_batch_and_the_journal_lives_on(tmp_path):
    async def main():
        journal = make(tmp_path / "j.db", busy_s=0.05)
        await journal.append(KEY, 0, FACT)
        with closing(sqlite3.connect(tmp_path / "j.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(JournalUnavailable, match="SQLITE_BUSY"):
                await journal.append(KEY, 1, FACT)
        await journal.append(KEY, 1, FACT)
        read = journal.read(KEY)
        await journal.close()
        return len(read)

    assert asyncio.run(main()) == 2


def test_a_cancelled_append_is_kept_whole_or_not_at_all_and_the_stream_goes_on(tmp_path):
    async def main():
        journal = make(tmp_path / "j.db")
        for _ in range(50):
            length = len(journal.read(KEY))
            task = asyncio.ensure_future(journal.append(KEY, length, FACT * 2))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            # A later append is queued behind the cancelled one: after it, that one's fate is settled.
            await journal.append(StreamKey("barrier", length), 0, FACT)
            assert len(journal.read(KEY)) in (length, length + 2)
        heads = journal.verify()
        await journal.close()
        return heads[KEY].seq

    assert asyncio.run(main()) == 100


def test_appends_beyond_the_queue_wait_for_room(tmp_path):
    number = backend.BACKLOG_MAX + 500

    async def main():
        journal = make(tmp_path / "j.db")
        await asyncio.gather(*(journal.append(StreamKey("j", i), 0, FACT) for i in range(number)))
        streams = len(journal.streams())
        await journal.close()
        return streams

    assert asyncio.run(main()) == number


def test_closing_writes_what_is_queued_and_refuses_what_waits(tmp_path):
    number = backend.BACKLOG_MAX + 500

    async def main():
        journal = make(tmp_path / "j.db")
        tasks = [asyncio.ensure_future(journal.append(StreamKey("j", i), 0, FACT)) for i in range(number)]
        await asyncio.sleep(0)
        await journal.close()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        kept = sum(isinstance(o, tuple) for o in outcomes)
        assert all(isinstance(o, tuple | JournalUnavailable) for o in outcomes)
        return kept

    kept = asyncio.run(main())
    with open_reader(tmp_path / "j.db") as reader:
        assert len(reader.streams()) == kept >= backend.BACKLOG_MAX


def test_heads_are_bounded_and_read_again(tmp_path):
    async def main():
        journal = make(tmp_path / "j.db")
        number = 3 * 8192 // 2
        for seq in range(2):
            await asyncio.gather(*(journal.append(StreamKey("j", i), seq, FACT) for i in range(number)))
        size = len(journal._writer._heads)
        heads = journal.verify()
        await journal.close()
        return size, {head.seq for head in heads.values()}

    size, lengths = asyncio.run(main())
    assert 0 < size <= 8192
    assert lengths == {2}


def test_a_loop_that_ends_in_the_middle_hurts_nobody(tmp_path):
    journal = make(tmp_path / "j.db")

    async def leave():
        for i in range(100):
            task = asyncio.ensure_future(journal.append(StreamKey("j", i), 0, FACT))
            await asyncio.sleep(0)
            task.cancel()

    async def again():
        await journal.append(KEY, 0, FACT)
        streams = len(journal.streams())
        await journal.close()
        return streams

    asyncio.run(leave())
    assert asyncio.run(again()) == 101


def test_reading_after_close_says_so(tmp_path):
    async def main():
        journal = make(tmp_path / "j.db")
        await journal.close()
        with pytest.raises(JournalUnavailable, match="closed"):
            journal.read(KEY)
        return True

    assert asyncio.run(main())


def test_a_reader_of_a_closed_journal_leaves_no_trace(tmp_path):
    filled(tmp_path / "j.db")
    before = snapshot(tmp_path)
    with open_reader(tmp_path / "j.db") as reader:
        assert len(list(reader.records())) == 6
        assert reader.verify()[StreamKey("j-0", 1)].seq == 3
    assert snapshot(tmp_path) == before


def test_a_reader_beside_a_writer_sees_every_commit_and_leaves_no_file(tmp_path):
    async def main():
        journal = make(tmp_path / "j.db")
        with open_reader(tmp_path / "j.db") as reader:
            for seq in range(20):
                await journal.append(KEY, seq, FACT)
                before = snapshot(tmp_path)
                assert len(reader.read(KEY)) == seq + 1
                after = snapshot(tmp_path)
                # In one process both share the index, which therefore may change; not so between processes.
                del before["j.db-shm"], after["j.db-shm"]
                assert after == before
        await journal.close()

    asyncio.run(main())


def test_no_file_and_another_file_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no journal here"):
        open_reader(tmp_path / "j.db")
    (tmp_path / "j.db").write_bytes(b"not a database, but long enough to be taken for one " * 100)
    with pytest.raises(Damaged, match="not a database"):
        open_reader(tmp_path / "j.db")
    with closing(sqlite3.connect(tmp_path / "k.db")) as conn:
        conn.execute("CREATE TABLE other (a)")
    with pytest.raises(Damaged):
        open_reader(tmp_path / "k.db")
    assert not os.path.lexists(tmp_path / "j.db-shm")
