"""Taking a journal over: look, refuse or mend, and only then write."""

import asyncio
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest

from fsm_miner import __version__
from fsm_miner.reading import fingerprint
from fsm_miner.takeover import ReadingDiffers, take_over
from journal import Entry, JournalUnavailable, SchemaTooNew, SqliteJournal, StreamKey, open_reader
from journal.reader import INSERT
from journal.record import EMPTY, chain, prepare
from journal.schema import connect_writer, note
from journal.suspicion import is_suspect, suspect
from journal.writer import _row
from states.events import to_data
from tests.support.cli_journal import (
    alive,
    denied,
    environment,
    offered,
    rot,
    succeeded,
    without_rights,
    write_journal,
)

OLD = Path(__file__).parents[1] / "golden" / "0.1.0-schema-1" / "journal.db"
TAKE = """
import sys
from pathlib import Path
from fsm_miner.takeover import take_over

take_over(Path(sys.argv[1]), boot_id="boot-1", now_ns=lambda: 1, log=None)
"""
NONSENSE = StreamKey("j-odd", 1)


class Log:
    def __init__(self):
        self.heard = []

    def error(self, event, **attrs):
        self.heard.append((event, *attrs.values()))


def take(path, *, boot_id="boot-1"):
    """Take over and let go; return what was taken, and what was logged."""
    log = Log()

    async def main():
        taken = take_over(path, boot_id=boot_id, now_ns=count(10**18).__next__, log=log)
        await taken.journal.close()
        return taken

    return asyncio.run(main()), log.heard


def jobs(taken):
    found = taken.recovered
    return [one.key.job_id for one in found.finished], [one.job.job_id for one in found.unfinished]


def add_nonsense(path):
    async def main():
        journal = SqliteJournal(path, boot_id="boot-1", now_ns=count(10**18).__next__)
        await journal.append(NONSENSE, 0, [Entry("Blessed", 1, "IDLE", "ACKED", {})])
        await journal.close()

    asyncio.run(main())


def annotate(path, **notes):
    with closing(connect_writer(path, busy_s=1.0)) as conn:
        note(conn, notes)


def files(folder):
    return {one.name: one.read_bytes() for one in folder.iterdir()}


@pytest.fixture
def path(tmp_path):
    return write_journal(tmp_path / "journal.db", succeeded(), denied(), alive())


def test_there_is_none_yet(tmp_path):
    taken, heard = take(tmp_path / "journal.db")
    assert (jobs(taken), heard) == (([], []), [])
    assert [one.name for one in tmp_path.iterdir()] == ["journal.db"]


def test_the_first_start_reads_everything_and_the_next_only_what_it_needs(path):
    first, _ = take(path)
    second, heard = take(path)
    assert (first.whole, second.whole) == (True, False)
    assert jobs(first) == jobs(second) == (["j-1", "j-2"], ["j-3"])
    assert sorted(first.recovered.finished, key=str) == sorted(second.recovered.finished, key=str)
    assert first.recovered.unfinished == second.recovered.unfinished
    assert heard == []
    with open_reader(path) as reader:
        assert reader.notes() == {
            "boot_id": "boot-1",
            "reading": fingerprint(),
            "version": __version__,
            "unreadable": "[]",
        }


def test_another_boot_or_a_suspicion_has_everything_checked(path):
    take(path)
    assert take(path, boot_id="boot-2")[0].whole
    assert not take(path, boot_id="boot-2")[0].whole
    suspect(path, "something was wrong")
    assert take(path, boot_id="boot-2")[0].whole
    assert not is_suspect(path)
    assert not take(path, boot_id="boot-2")[0].whole


def test_damage_in_what_is_over_is_left_to_the_check_beside_the_work(path):
    take(path)
    rot(path, "UPDATE records SET data_json = '{}' WHERE job_id = 'j-1' AND seq = 6")
    taken, heard = take(path)
    assert (taken.whole, heard) == (False, [])
    suspect(path, "the check found it")
    taken, ((event, report),) = take(path)
    assert event == "journal_salvaged"
    assert "j-1/1 from record 6 on" in report
    assert jobs(taken) == (["j-2"], ["j-1", "j-3"])


def test_damage_in_what_is_unfinished_is_found_at_once(path):
    take(path)
    rot(path, "UPDATE records SET data_json = '{}' WHERE job_id = 'j-3' AND seq = 4")
    taken, ((event, report),) = take(path)
    assert event == "journal_salvaged"
    assert "j-3/1 from record 4 on" in report
    assert taken.recovered.unfinished[0].job.seq == 3
    assert taken.whole


def test_a_structure_that_is_broken_is_found_when_it_is_in_the_way(path):
    take(path)
    with path.open("r+b") as file:
        file.truncate(8192)
    taken, ((event, _),) = take(path)
    assert event == "journal_salvaged"
    assert taken.whole


def test_an_older_schema_that_reads_otherwise_is_left_byte_for_byte(tmp_path):
    path = tmp_path / "journal.db"
    shutil.copyfile(OLD, path)
    with closing(
        sqlite3.connect(path)
    ) as conn:  # a fact of a version that this one does not know, chain and all
        conn.execute("PRAGMA journal_mode = DELETE")
    _forge(path)
    before = files(tmp_path)
    with pytest.raises(ReadingDiffers, match="j-odd/1: record 1: Blessed: KeyError") as refused:
        take(path)
    for word in ("1 of 17 streams", "go back to the version that wrote it", "check --journal"):
        assert word in str(refused.value)
    after = files(tmp_path)
    after.pop("journal.db-shm", None)  # SQLite's index over the log: no part of what is stored
    assert after == before


def _forge(path):
    """Append a foreign stream to a database of schema 1, as the program of that time would."""
    (record,) = chain(
        NONSENSE, EMPTY, prepare([Entry("Blessed", 1, "IDLE", "ACKED", {})]), at_ns=1, boot_id="b"
    )
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        conn.execute(INSERT, _row(record))


def test_another_reading_refuses_and_the_version_that_had_it_is_named(path, tmp_path):
    add_nonsense(path)
    annotate(path, reading="another", version="9.9.9", unreadable="[]", boot_id="boot-1")
    before = files(tmp_path)
    with pytest.raises(ReadingDiffers, match=r"go back to version 9\.9\.9"):
        take(path)
    assert files(tmp_path) == before


@pytest.mark.parametrize("unreadable", ['[["j-odd", 1]]'])
def test_what_the_version_before_could_not_read_either_is_no_reason_to_refuse(path, unreadable):
    add_nonsense(path)
    annotate(path, reading="another", version="9.9.9", unreadable=unreadable)
    taken, heard = take(path)
    assert jobs(taken) == (["j-1", "j-2"], ["j-3"])
    assert [event for event, _ in heard] == ["stream_unreadable"]
    with open_reader(path) as reader:
        assert reader.notes()["unreadable"] == unreadable
    # And the next start, which reads less, says so again.
    assert [event for event, _ in take(path)[1]] == ["stream_unreadable"]


@pytest.mark.parametrize("note_", ["", "{", "[1]", '[["a"]]', '[["a", 1, 2]]', "null"])
def test_a_note_that_is_none_of_ours_excuses_nothing(path, note_):
    add_nonsense(path)
    annotate(path, reading="another", unreadable=note_)
    with pytest.raises(ReadingDiffers):
        take(path)


def test_the_same_reading_leaves_nonsense_alone_also_after_a_reboot(path):
    take(path)
    add_nonsense(path)
    taken, heard = take(path, boot_id="boot-2")
    assert [event for event, _ in heard] == ["stream_unreadable"]
    assert taken.recovered.unfinished[0].job.job_id == "j-3"


def test_damaged_and_read_otherwise_is_refused_before_it_is_salvaged(path, tmp_path):
    add_nonsense(path)
    annotate(path, reading="another", version="9.9.9")
    rot(path, "UPDATE records SET data_json = '{}' WHERE job_id = 'j-1' AND seq = 6")
    before = files(tmp_path)
    with pytest.raises(ReadingDiffers):
        take(path)
    assert files(tmp_path) == before


def test_a_later_schema_is_refused(path, tmp_path):
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("INSERT INTO migrations SELECT 99, 1, schema_sha256 FROM migrations WHERE version = 2")
        conn.execute("PRAGMA user_version = 99")
        conn.commit()
    before = files(tmp_path)
    with pytest.raises(SchemaTooNew):
        take(path)
    assert files(tmp_path) == before


def test_a_salvage_that_was_interrupted_is_finished_and_told(path, tmp_path):
    path.rename(tmp_path / "journal.db.salvaged-S")
    path.write_text("old")
    taken, ((event, report),) = take(path)
    assert event == "journal_salvaged"
    assert "journal.db.damaged-S" in report
    assert jobs(taken) == (["j-1", "j-2"], ["j-3"])
    assert (tmp_path / "journal.db.damaged-S").read_text() == "old"


def test_a_folder_that_is_not_there_is_said(tmp_path):
    with pytest.raises(JournalUnavailable, match="check the folder"):
        take(tmp_path / "none" / "journal.db")


def test_what_can_not_be_opened_now_is_no_damage(path, tmp_path):
    take(path)
    before = files(tmp_path)
    path.chmod(0)  # as after a start by root, for a user who is not
    done = subprocess.run(
        [*without_rights(), sys.executable, "-c", TAKE, str(path)],
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
    )
    assert "JournalUnavailable" in done.stderr, done.stderr
    assert "can't be opened now: check who owns it" in done.stderr
    path.chmod(0o600)
    assert files(tmp_path) == before


def test_a_log_without_its_index_is_read(path):
    take(path)

    async def left_open():
        journal = SqliteJournal(path, boot_id="boot-1", now_ns=count(10**18).__next__)
        await journal.append(StreamKey("j-9", 1), 0, [Entry("Offered", 1, "IDLE", "PULLING", _offer())])
        for name in ("journal.db", "journal.db-wal"):
            shutil.copyfile(path.with_name(name), path.with_name("copy-" + name))
        await journal.close()

    asyncio.run(left_open())
    copy = path.with_name("copy-journal.db")
    taken, _ = take(copy)
    assert "j-9" in jobs(taken)[1]


def _offer():
    return to_data(offered("j-9"))
