"""The check of the whole journal beside the work: it finds what a start did not look at, and is in nobody's way."""

import asyncio
from itertools import count
from threading import Event

import pytest

from fsm_miner.journal_check import JournalCheck, check_whole
from journal import Entry, SqliteJournal, StreamKey
from journal.onlooker import Damaged
from journal.suspicion import clear_suspicion, is_suspect
from tests.support.cli_journal import alive, denied, rot, succeeded, write_journal
from tests.support.descriptors import no_descriptors


class Log:
    def __init__(self):
        self.heard = []

    def error(self, event, **attrs):
        self.heard.append((event, attrs))


class Clock:
    """Sleeps for no time, and writes down for how long it was asked to; after the last, for ever."""

    def __init__(self, turns):
        self.turns = turns
        self.slept = []
        self.stands = asyncio.Event()

    async def sleep(self, seconds):
        self.slept.append(seconds)
        if len(self.slept) > self.turns:
            self.stands.set()
            await asyncio.Event().wait()


@pytest.fixture
def path(tmp_path):
    return write_journal(tmp_path / "journal.db", succeeded(), denied(), alive())


def checked(path, *, fresh=False, turns=1):
    """Run the check until it ends or the clock stands; return check, clock, log and the calls of `stop`."""
    log, clock, stops = Log(), Clock(turns), []

    async def main():
        journal = SqliteJournal(path, boot_id="b", now_ns=count(10**18).__next__)
        check = JournalCheck(journal, lambda: stops.append(1), fresh=fresh, clock=clock, log=log)
        task = asyncio.create_task(check.run())
        standing = asyncio.create_task(clock.stands.wait())
        await asyncio.wait([task, standing], return_when=asyncio.FIRST_COMPLETED)
        for one in (task, standing):
            one.cancel()
        await asyncio.gather(task, standing, return_exceptions=True)
        await journal.close()
        return check

    return asyncio.run(main()), clock, log, stops


def test_a_sound_journal_is_checked_soon_and_then_daily(path):
    check, clock, log, _ = checked(path, turns=2)
    assert (check.troubles, log.heard) == ((), [])
    assert clock.slept == [3.0, 86400.0, 86400.0]
    assert not is_suspect(path)


def test_after_a_start_that_read_everything_there_is_no_haste(path):
    assert checked(path, fresh=True, turns=0)[1].slept == [86400.0]


@pytest.mark.parametrize("seq", [1, 3, 8])
def test_damage_anywhere_is_told_and_noted_and_stops_nothing(path, seq):
    rot(path, f"UPDATE records SET at_ns = 1 WHERE job_id = 'j-1' AND seq = {seq}")
    check, clock, log, stops = checked(path)
    ((event, attrs),) = log.heard
    assert event == "journal_damaged"
    assert f"j-1/1: record {seq}" in attrs["problem"]
    assert "next start" in check.troubles[0]
    assert is_suspect(path)
    assert (stops, check.begin_anew) == ([], False)
    assert clock.slept == [3.0], "one finding is enough"
    clear_suspicion(path)
    assert not is_suspect(path)


def test_a_broken_structure_is_found(path):
    data = path.read_bytes()
    # An index that has lost what it should point to.
    path.write_bytes(data.replace(b"j-1", b"j-0", 1))
    with pytest.raises(Damaged, match="records_"):
        check_whole(path, Event())
    check, _, log, _ = checked(path)
    assert [event for event, _ in log.heard] == ["journal_damaged"]
    assert "records_" in check.troubles[0]


def test_no_descriptor_left_is_no_damage(path):
    log, clock = Log(), Clock(1)

    async def main():
        journal = SqliteJournal(path, boot_id="b", now_ns=count(10**18).__next__)
        check = JournalCheck(journal, lambda: None, fresh=False, clock=clock, log=log)
        await asyncio.to_thread(lambda: None)  # so that a thread is there
        with no_descriptors():
            task = asyncio.create_task(check.run())
            await clock.stands.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await journal.close()
        return check

    check = asyncio.run(main())
    assert (check.troubles, log.heard) == ((), [])
    assert clock.slept == [3.0, 60.0]
    assert not is_suspect(path)


def test_it_stops_when_it_is_asked_to(path):
    stop = Event()
    stop.set()
    rot(path, "UPDATE records SET at_ns = 1 WHERE job_id = 'j-1' AND seq = 3")
    assert check_whole(path, stop) is None


def test_what_is_appended_meanwhile_does_not_disturb_it(path):
    async def main():
        journal = SqliteJournal(path, boot_id="b", now_ns=count(10**18).__next__)
        looking = asyncio.create_task(asyncio.to_thread(check_whole, path, Event()))
        for seq in range(300):
            await journal.append(StreamKey("j-5", 1), seq, [Entry("E", 1, "A", "B", {})])
        found = await looking
        await journal.close()
        return found

    assert asyncio.run(main()) is None


def test_an_append_that_finds_damage_has_the_daemon_begin_anew(path):
    log, stops = Log(), []

    async def main():
        journal = SqliteJournal(path, boot_id="b", now_ns=count(10**18).__next__)
        check = JournalCheck(journal, lambda: stops.append(1), fresh=True, clock=Clock(0), log=log)
        watch = asyncio.create_task(check.watch())
        await asyncio.sleep(0)
        assert stops == []
        journal.damaged.set()
        await watch
        await journal.close()
        return check

    check = asyncio.run(main())
    assert (stops, check.begin_anew) == ([1], True)
    assert log.heard[0][0] == "journal_damaged"
    assert "begins anew" in check.troubles[0]
    assert is_suspect(path)


def test_a_note_that_can_not_be_written_is_told(path):
    (path.parent / "journal.db.suspect").mkdir()
    rot(path, "UPDATE records SET at_ns = 1 WHERE job_id = 'j-1' AND seq = 3")
    log = checked(path)[2]
    assert [event for event, _ in log.heard] == ["journal_damaged", "journal_damage_not_noted"]
