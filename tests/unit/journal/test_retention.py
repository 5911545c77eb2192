import asyncio
import gzip
import json
import sqlite3
from contextlib import closing

import pytest

from journal import (
    ChainBroken,
    Entry,
    ExportBroken,
    JournalUnavailable,
    SqliteJournal,
    StreamKey,
    StreamSealed,
    read_export,
    verify_chain,
)

OLD, YOUNG, OPEN = StreamKey("old", 1), StreamKey("young", 1), StreamKey("open", 1)


class Clock:
    now_ns = 1_000

    def __call__(self):
        return self.now_ns


def fact(dest):
    return [Entry("E", 1, "A", dest, {"t": "\ud800é"})]


def play(tmp_path, script):
    async def main():
        clock = Clock()
        journal = SqliteJournal(tmp_path / "j.db", boot_id="b", now_ns=clock)
        try:
            await journal.append(OLD, 0, [*fact("RUNNING"), *fact("DONE")])
            await journal.append(OPEN, 0, fact("RUNNING"))
            await journal.append(YOUNG, 0, fact("RUNNING"))
            clock.now_ns = 5_000
            await journal.append(YOUNG, 1, fact("DONE"))
            return await script(journal)
        finally:
            await journal.close()

    return asyncio.run(main())


def test_only_old_and_final_streams_go_and_they_can_be_verified(tmp_path):
    async def script(journal):
        stored = journal.read(OLD)
        expiry = await journal.expire(2_000, tmp_path / "export")
        return stored, expiry, journal.streams(), journal.read(OLD), set(journal.verify())

    stored, expiry, streams, gone, verified = play(tmp_path, script)
    assert expiry.keys == (OLD,)
    assert expiry.heads == ((2, stored[1].hash),)
    assert streams == [OPEN, YOUNG]
    assert verified == {OPEN, YOUNG}
    assert gone == []
    exported = list(read_export(expiry.path))
    assert exported == stored
    assert verify_chain(exported) == {OLD: (2, stored[1].hash)}
    assert [p.name for p in (tmp_path / "export").iterdir()] == [expiry.path.name]
    assert (expiry.path.stat().st_mode & 0o777, expiry.path.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_a_sealed_stream_is_closed_for_ever(tmp_path):
    async def script(journal):
        await journal.seal([OLD], tmp_path / "export")
        for believed in (0, 2):
            with pytest.raises(StreamSealed, match="closed after 2 records and exported to journal-"):
                await journal.append(OLD, believed, fact("RUNNING"))
        await journal.append(OPEN, 1, fact("DONE"))
        return journal.streams()

    assert play(tmp_path, script) == [OPEN, YOUNG]
    with closing(sqlite3.connect(tmp_path / "j.db")) as conn:
        for statement in ("DELETE FROM sealed", "UPDATE sealed SET last_seq = 99", "DELETE FROM records"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                conn.execute(statement)


def test_nothing_to_do_makes_no_file(tmp_path):
    async def script(journal):
        first = await journal.expire(500, tmp_path / "export")
        second = await journal.seal([StreamKey("unknown", 1)], tmp_path / "export")
        return first, second

    first, second = play(tmp_path, script)
    assert (first.path, first.keys, second.path, second.keys) == (None, (), None, ())
    assert not list((tmp_path / "export").iterdir())


def test_a_stream_that_grows_meanwhile_stays(tmp_path):
    async def script(journal):
        # The export reads in its own thread; the append is queued before the deletion is.
        sealing = asyncio.ensure_future(journal.seal([OLD], tmp_path / "export"))
        await journal.append(OLD, 2, fact("RUNNING"))
        expiry = await sealing
        return expiry, journal.read(OLD)

    expiry, left = play(tmp_path, script)
    if expiry.keys:  # the export came later than the append, and holds it
        assert [r.seq for r in read_export(expiry.path)] == [1, 2, 3]
        assert left == []
    else:
        assert [r.seq for r in left] == [1, 2, 3]


def test_a_broken_stream_is_never_dropped(tmp_path):
    async def script(journal):
        with closing(sqlite3.connect(tmp_path / "j.db")) as conn:
            (trigger,) = conn.execute(
                "SELECT sql FROM sqlite_master WHERE name = 'records_no_update'"
            ).fetchone()
            conn.execute("DROP TRIGGER records_no_update")
            conn.execute("UPDATE records SET data_json = '{}' WHERE job_id = 'old' AND seq = 2")
            conn.execute(trigger)
            conn.commit()
        return await journal.seal([OLD, YOUNG], tmp_path / "export")

    expiry = play(tmp_path, script)
    assert expiry.keys == (YOUNG,)
    assert [(b.key, b.seq) for b in expiry.broken] == [(OLD, 2)]


def test_an_export_that_cannot_be_written_drops_nothing(tmp_path):
    (tmp_path / "file").write_text("in the way")

    async def script(journal):
        with pytest.raises(JournalUnavailable, match="nothing was dropped"):
            await journal.seal([OLD], tmp_path / "file")
        return len(journal.read(OLD))

    assert play(tmp_path, script) == 2


def test_a_changed_export_is_noticed(tmp_path):
    async def script(journal):
        return (await journal.seal([OLD], tmp_path / "export")).path

    path = play(tmp_path, script)
    lines = gzip.decompress(path.read_bytes()).splitlines()
    fields = json.loads(lines[1])
    fields[5] = "Forged"
    path.write_bytes(gzip.compress(lines[0] + b"\n" + json.dumps(fields).encode() + b"\n"))
    with pytest.raises(ChainBroken, match="old/1: record 2"):
        list(read_export(path))
    path.write_bytes(gzip.compress(lines[0] + b"\n[1,2]\n"))
    with pytest.raises(ExportBroken, match="after line 2: not the twelve fields"):
        list(read_export(path))
    path.write_bytes(gzip.compress(b"\n".join(lines))[:-9])
    with pytest.raises(ExportBroken):
        list(read_export(path))
