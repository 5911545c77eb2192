"""Rot: whatever happens to the file, opening never fails, keeps what holds, and sets the old file aside whole."""

import asyncio
import random
import shutil
import sqlite3
from contextlib import closing
from itertools import count

import pytest

from journal import Entry, SqliteJournal, StreamKey, open_journal, open_reader
from journal.salvage import finish_swap

STREAMS, LENGTH = 40, 12


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A healthy journal's file, closed, and its records by stream."""
    path = tmp_path_factory.mktemp("sound") / "j.db"

    async def main():
        journal = SqliteJournal(path, boot_id="b", now_ns=count(1).__next__)
        for seq in range(LENGTH):
            for i in range(STREAMS):
                fact = [Entry("Launched", 1, "PREP", "RUNNING", {"i": i, "pad": "x" * (i * 7)})]
                await journal.append(StreamKey(f"j-{i}", 1), seq, fact)
        await journal.seal([StreamKey("j-0", 1)], path.parent / "export")
        streams = {key: journal.read(key) for key in journal.streams()}
        await journal.close()
        return streams

    return path, asyncio.run(main())


def reopen(path):
    """Open the journal, prove that it works, return what it holds and the report."""

    async def main():
        journal, report = open_journal(path, boot_id="b", now_ns=count(10**18).__next__)
        journal.verify()
        streams = {key: journal.read(key) for key in journal.streams()}
        await journal.append(StreamKey("after", 1), 0, [Entry("E", 1, "A", "B", {})])
        await journal.close()
        return streams, report

    return asyncio.run(main())


def check(path, original, damaged):
    streams, report = reopen(path)
    for key, records in streams.items():
        assert records == original[key][: len(records)]
    lost = {key for key, records in original.items() if len(streams.get(key, [])) < len(records)}
    if report is None:
        assert not lost
        return None
    assert report.aside.read_bytes() == damaged
    assert report.records == sum(map(len, streams.values()))
    assert report.streams == len(streams)
    if lost:
        assert report.broken or report.unreadable or not streams
    assert str(report.aside) in str(report)
    # The next start finds nothing to report.
    assert open_and_close(path) is None
    return report


def open_and_close(path):
    journal, report = open_journal(path, boot_id="b", now_ns=count(1).__next__)
    asyncio.run(journal.close())
    return report


@pytest.mark.parametrize("seed", range(60))
def test_bytes_changed_anywhere(tmp_path, sound, seed):
    source, original = sound
    chance = random.Random(seed)
    data = bytearray(source.read_bytes())
    for _ in range(chance.choice((1, 1, 3, 50))):
        data[chance.randrange(len(data))] ^= chance.randrange(1, 256)
    path = tmp_path / "j.db"
    path.write_bytes(data)
    check(path, original, bytes(data))


@pytest.mark.parametrize("seed", range(12))
def test_whole_pages_lost(tmp_path, sound, seed):
    source, original = sound
    chance = random.Random(seed)
    data = bytearray(source.read_bytes())
    # Not the first page: without it there is no telling what the others are.
    page = chance.randrange(1, len(data) // 4096) * 4096
    data[page : page + 4096] = chance.choice((bytes(4096), chance.randbytes(4096)))
    path = tmp_path / "j.db"
    path.write_bytes(data)
    report = check(path, original, bytes(data))
    if report is not None:
        assert report.records > 0


@pytest.mark.parametrize("size", [0, 1, 99, 100, 4096, 5000, 40960])
def test_cut_short(tmp_path, sound, size):
    source, original = sound
    path = tmp_path / "j.db"
    data = source.read_bytes()[:size]
    path.write_bytes(data)
    if size == 0:
        assert reopen(path) == ({}, None)
    else:
        assert check(path, original, data) is not None


def test_another_file_is_set_aside_too(tmp_path):
    path = tmp_path / "j.db"
    path.write_text("a note somebody left here\n" * 400)
    streams, report = reopen(path)
    assert streams == {}
    assert report.aside.read_text().startswith("a note")


def test_rot_in_a_trigger_is_damage_too(tmp_path, sound):
    source, original = sound
    path = tmp_path / "j.db"
    data = source.read_bytes().replace(b"BEFORE DELETE ON sealed", b"BEFORE DELETE ON sEaled", 1)
    path.write_bytes(data)
    report = check(path, original, data)
    assert "schema" in report.reason
    assert report.records == sum(map(len, original.values()))


def test_a_forged_record_costs_its_stream_the_tail_and_no_other(tmp_path, sound):
    source, original = sound
    path = tmp_path / "j.db"
    shutil.copy(source, path)
    with closing(sqlite3.connect(path)) as conn:
        (trigger,) = conn.execute("SELECT sql FROM sqlite_master WHERE name = 'records_no_update'").fetchone()
        conn.execute("DROP TRIGGER records_no_update")
        conn.execute("UPDATE records SET event = 'Forged' WHERE job_id = 'j-7' AND seq = 5")
        conn.execute(trigger)
        conn.commit()
    report = check(path, original, path.read_bytes())
    assert "j-7/1: record 5" in report.reason
    assert [(b.key, b.seq) for b in report.broken] == [(StreamKey("j-7", 1), 5)]
    with open_reader(path) as reader:
        assert len(reader.read(StreamKey("j-7", 1))) == 4
        assert len(reader.read(StreamKey("j-8", 1))) == LENGTH


def test_sealed_streams_stay_sealed(tmp_path, sound):
    source, _ = sound
    path = tmp_path / "j.db"
    data = source.read_bytes().replace(b"Launched", b"launched", 1)
    path.write_bytes(data)
    assert reopen(path)[1] is not None
    with closing(sqlite3.connect(path)) as conn:
        assert conn.execute("SELECT job_id, last_seq FROM sealed").fetchall() == [("j-0", LENGTH)]


@pytest.mark.parametrize("moved", [(), ("-wal",), ("-wal", "-shm"), ("-wal", "-shm", "")])
def test_a_swap_that_was_interrupted_is_finished(tmp_path, sound, moved):
    source, original = sound
    path = tmp_path / "j.db"
    for suffix in ("", "-wal", "-shm"):
        name = f"j.db.damaged-S{suffix}" if suffix in moved else f"j.db{suffix}"
        (tmp_path / name).write_text(f"old{suffix}")
    shutil.copy(source, tmp_path / "j.db.salvaged-S")
    streams, report = reopen(path)
    assert streams == original
    assert report.aside == tmp_path / "j.db.damaged-S"
    assert [(tmp_path / f"j.db.damaged-S{s}").read_text() for s in ("", "-wal", "-shm")] == [
        "old",
        "old-wal",
        "old-shm",
    ]
    assert finish_swap(path) is None


def test_a_half_filled_salvage_is_worth_nothing(tmp_path, sound):
    source, original = sound
    path = tmp_path / "j.db"
    data = source.read_bytes().replace(b"Launched", b"launched", 1)
    path.write_bytes(data)
    (tmp_path / "j.db.salvaging").write_text("half")
    (tmp_path / "j.db.salvaging-wal").write_text("half")
    assert check(path, original, data) is not None
    assert not [p for p in tmp_path.iterdir() if "salvag" in p.name]
