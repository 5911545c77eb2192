"""The supervisor where the journal lets it down; its ordinary days are the simulator's."""

import asyncio
from dataclasses import replace
from itertools import count

import pytest

from fsm_miner.coordinator.port import Reconciled
from fsm_miner.reconcile import Reconciler
from fsm_miner.recovery import head_of, replay_stream
from fsm_miner.supervisor import Supervisor
from fsm_miner.worksite import NotNow
from journal import FailingJournal, FailsOnNth, MemoryJournal
from journal.port import AppendConflict, JournalUnavailable, StreamKey, StreamSealed
from states import events as e
from states import instructions as i
from states import stimuli as s
from states.admission import Capacity
from states.evolve import evolve
from states.job import NEW
from states.retry import Backoff, Policy
from states.table import State

KEY = StreamKey("j-1", 1)
OFFER = s.OfferReceived("j-1", 1, {"artifacts": []}, "0" * 64, None, 7)


class Clock:
    """Sleeping takes no time, but lets others run."""

    def now_ns(self):
        return 7

    def boot_ns(self):
        return 7

    async def sleep(self, seconds):
        await asyncio.sleep(0)


class Dice:
    def roll(self):
        return 0.5


class Effects:
    """Answers each instruction with the next stimulus of a happy life; waits for ever where it has none."""

    def __init__(self):
        self.done = []

    async def perform(self, job, instruction):
        self.done.append(type(instruction))
        match instruction:
            case i.AskAck():
                return s.AckGranted(30.0)
            case i.Prepare():
                return s.PrepDone("boot", "/lock", None, "/bin/true", "0" * 64, 60.0, 64, 10)
            case i.Launch():
                return s.LaunchSucceeded(4711, 7, 7)
            case i.Watch():
                return s.ProcessGone(s.How.EXITED, 0, None, 7, 7, 0.5)
            case i.Deliver():
                return s.DeliveryDone(200)
        return await asyncio.Event().wait()


class Observer:
    def __init__(self):
        self.states = []
        self.troubles = []

    def stepped(self, before, after, events):
        self.states.append(after.state)

    def trouble(self, event, job, message, error=None):
        self.troubles.append(event)


def memory():
    return MemoryJournal(boot_id="boot", now_ns=count(1).__next__)


def play(journal, script, given=None, *, slots=1):
    """Run `script(supervisor, observer, effects)` with a fresh supervisor over `journal`."""

    async def run():
        observer, effects = Observer(), given or Effects()
        supervisor = Supervisor(
            journal,
            effects,
            observer,
            policy=Policy(),
            capacity=lambda: Capacity(slots, 0),
            clock=Clock(),
            dice=Dice(),
        )
        supervisor.open_admission()
        try:
            async with asyncio.timeout(10):
                return await script(supervisor, observer, effects)
        finally:
            await supervisor.stop()

    return asyncio.run(run())


async def until(condition):
    while not condition():  # noqa: ASYNC110 - nothing here takes time; there is no event to wait for
        await asyncio.sleep(0)


def test_a_job_goes_through_the_house_once():
    journal = memory()

    async def script(supervisor, observer, effects):
        assert await supervisor.offer(OFFER)
        await until(lambda: State.DONE in observer.states)
        assert supervisor.jobs() == []
        return effects.done, observer.troubles

    done, troubles = play(journal, script)
    assert done == [i.AskAck, i.Prepare, i.Launch, i.Watch, i.Deliver]
    assert troubles == []
    assert [record.dest for record in journal.read(KEY)][-1] == "DONE"


@pytest.mark.parametrize("number", range(2, 8))
@pytest.mark.parametrize("kept", [False, True])
def test_an_append_that_fails_is_done_again_or_believed(number, kept):
    journal = memory()

    async def script(supervisor, observer, effects):
        assert await supervisor.offer(OFFER)
        await until(lambda: supervisor.job(KEY) is None and supervisor.journal_trouble is None)
        return effects.done, observer.troubles

    done, troubles = play(FailsOnNth(journal, number, kept=kept), script)
    records = journal.read(KEY)
    assert records[-1].dest == "DONE"
    assert [record.event for record in records].count("LaunchIntended") == 1
    assert done.count(i.Launch) == 1
    assert troubles == ["journal_unavailable", *(["append_conflict"] if kept else [])]


def test_an_offer_that_cannot_be_journaled_is_dropped_and_the_trouble_ends_by_itself():
    journal = FailsOnNth(memory(), 1)

    async def script(supervisor, observer, effects):
        assert not await supervisor.offer(OFFER)
        assert supervisor.jobs() == []
        assert supervisor.journal_trouble is not None
        supervisor.changed.clear()
        await supervisor.changed.wait()
        assert supervisor.journal_trouble is None
        assert await supervisor.offer(OFFER)
        await until(lambda: State.DONE in observer.states)
        return observer.troubles

    assert play(journal, script) == ["journal_unavailable"]


def test_a_journal_that_never_writes_takes_no_job_and_runs_nothing():
    async def script(supervisor, observer, effects):
        for _ in range(3):
            assert not await supervisor.offer(OFFER)
        assert supervisor.journal_trouble is not None
        return effects.done

    assert play(FailingJournal(), script) == []


def test_a_job_that_is_over_is_not_taken_again():
    async def script(supervisor, observer, effects):
        assert await supervisor.offer(OFFER)
        await until(lambda: State.DONE in observer.states)
        assert not await supervisor.offer(OFFER)
        return observer.states

    assert play(memory(), script)[-1] is State.DONE


class Idle(Effects):
    async def perform(self, job, instruction):
        return await asyncio.Event().wait()


def test_an_attempt_that_was_overtaken_before_a_crash_is_given_up_after_it():
    """The crash came between the record of the second attempt and the end of the first."""
    journal = memory()
    for number in (1, 2):  # two supervisors, of which none knows of the other's attempt
        offer = replace(OFFER, attempt=number)
        assert play(journal, lambda supervisor, _observer, _effects, o=offer: supervisor.offer(o), Idle())

    async def go_on(supervisor, observer, effects):
        found = [replay_stream(journal.read(key)) for key in journal.streams()]
        supervisor.recover((steps[-1][1], head_of(steps)) for steps in found)
        await until(lambda: supervisor.job(KEY) is None)
        return [job.attempt for job in supervisor.jobs()]

    assert play(journal, go_on, Idle()) == [2]
    assert [record.event for record in journal.read(KEY)] == ["Offered", "Superseded"]


@pytest.mark.parametrize("said", ["abandon", "continue"])
def test_after_a_restart_the_coordinator_is_asked_about_the_newest_attempt_alone(said):
    """Its answer names jobs, not attempts: an `abandon` that means the first attempt would end the second."""
    jobs = [evolve(evolve(NEW, e.Offered("j-1", n, {}, "0" * 64, 7)), e.Acked(30.0)) for n in (1, 2)]
    asked, abandoned = [], []

    class Knows:
        async def reconcile(self, jobs):
            asked.extend(job.attempt for job in jobs)
            return Reconciled(frozenset({"j-1"} if said == "abandon" else ()))

    class Ready:
        async def ready(self):
            pass

    class Hears:
        async def feed(self, key, stimulus):
            abandoned.append(key.attempt)

        def open_admission(self):
            asked.append("open")

    reconciler = Reconciler(
        Knows(), Ready(), Hears(), backoff=Backoff(1.0, 2.0), clock=Clock(), dice=Dice(), log=None
    )
    asyncio.run(reconciler.run([(job, 7) for job in jobs]))
    assert asked == [2, "open"]
    assert abandoned == ([2] if said == "abandon" else [])


def test_the_failing_journal_says_so():
    with pytest.raises(JournalUnavailable):
        asyncio.run(FailingJournal().probe())


class ShortOfDescriptors(Effects):
    """Lacks something at the first tries of one instruction."""

    def __init__(self, instruction, times):
        super().__init__()
        self.instruction = instruction
        self.left = times
        self.seen = []

    async def perform(self, job, instruction):
        if isinstance(instruction, self.instruction) and self.left:
            self.left -= 1
            raise NotNow("Too many open files")
        return await super().perform(job, instruction)


@pytest.mark.parametrize("instruction", [i.Prepare, i.Launch, i.Watch, i.Deliver])
def test_what_the_node_lacks_for_a_moment_changes_nothing_for_the_job(instruction):
    journal, short = memory(), ShortOfDescriptors(instruction, 3)

    async def script(supervisor, observer, _effects):
        assert await supervisor.offer(OFFER)
        await until(lambda: supervisor.job(KEY) is None)
        assert (short.left, supervisor.lacks, observer.troubles) == (0, {}, ["not_now"])

    play(journal, script, short)
    events = [record.event for record in journal.read(KEY)]
    assert events[-1] == "Delivered"
    assert "RetryScheduled" not in events


class Slow:
    """A journal whose first append takes until `go`."""

    def __init__(self, journal):
        self._journal = journal
        self.begun, self.go = asyncio.Event(), asyncio.Event()

    async def append(self, key, seq, entries):
        self.begun.set()
        await self.go.wait()
        return await self._journal.append(key, seq, entries)


def test_a_job_is_none_before_its_offer_is_written_down():
    """A heartbeat meanwhile must not name it: it would have no name."""
    slow = Slow(memory())

    async def script(supervisor, _observer, _effects):
        offering = asyncio.create_task(supervisor.offer(OFFER))
        await slow.begun.wait()
        before = supervisor.jobs()
        slow.go.set()
        assert await offering
        return before, [job.job_id for job in supervisor.jobs()]

    assert play(slow, script, Idle()) == ([], ["j-1"])


class Defective(Effects):
    """Fails at the first tries of one instruction by a defect of its own."""

    def __init__(self, instruction, times):
        super().__init__()
        self.instruction = instruction
        self.left = times

    async def perform(self, job, instruction):
        if isinstance(instruction, self.instruction) and self.left:
            self.left -= 1
            raise ZeroDivisionError
        return await super().perform(job, instruction)


@pytest.mark.parametrize("instruction", [i.Launch, i.Watch])
def test_a_defect_that_comes_again_and_again_is_told_while_it_does(instruction):
    journal, defective = memory(), Defective(instruction, 3)

    async def script(supervisor, observer, _effects):
        assert await supervisor.offer(OFFER)
        await until(lambda: supervisor.stuck)
        (told,) = supervisor.stuck.values()
        assert (supervisor.job(KEY) is not None, supervisor.lacks) == (True, {})
        await until(lambda: supervisor.job(KEY) is None)
        assert (defective.left, supervisor.stuck, observer.troubles) == (0, {}, ["effect_failed"] * 3)
        return told

    told = play(journal, script, defective)
    assert told.startswith(f"j-1 does not go on: a defect of the node in {instruction.__name__}")
    assert journal.read(KEY)[-1].event == "Delivered"


class Other:
    """A journal in which `KEY` is another stream than anybody believes from record `at` on, and can't be read."""

    def __init__(self, journal, at, read):
        self._journal, self._at, self._read = journal, at, read
        self.bad = True

    async def append(self, key, seq, entries):
        if self.bad and key == KEY and seq == self._at:
            raise AppendConflict("has more records")
        return await self._journal.append(key, seq, entries)

    def read(self, key):
        return self._read()

    async def probe(self):
        return None


def _emfile():
    raise JournalUnavailable("too many open files")


@pytest.mark.parametrize("read", [list, _emfile], ids=["empty", "unreadable"])
@pytest.mark.parametrize("at", [1, 2, 3, 4, 5, 7])
def test_a_conflict_that_nothing_can_solve_costs_one_job_some_time_and_no_other_anything(at, read):
    journal = Other(memory(), at, read)
    other = replace(OFFER, job_id="j-2")

    async def script(supervisor, observer, effects):
        assert await supervisor.offer(OFFER)
        await until(lambda: KEY in supervisor.lacks)
        assert await supervisor.offer(other)
        await until(lambda: State.DONE in observer.states)
        journal.bad = False
        await until(lambda: not supervisor.jobs())
        assert supervisor.lacks == {}
        return observer.troubles

    assert play(journal, script, slots=2) == ["append_conflict"]


def test_an_exported_stream_is_not_taken_up_and_is_said_to_be_exported():
    class Sealed:
        async def append(self, key, seq, entries):
            raise StreamSealed("was exported")

        def read(self, key):
            return []

    async def script(supervisor, observer, effects):
        with pytest.raises(StreamSealed):
            await supervisor.offer(OFFER)
        return supervisor.jobs(), observer.troubles

    assert play(Sealed(), script) == ([], [])
