"""The echo: what is over here is told again when it is handed out again, now and then, and never runs."""

import asyncio
from types import SimpleNamespace

from fsm_miner.coordinator.port import Acked, Delivered, Gone, Unknown
from fsm_miner.echo import Echo, EchoParts
from journal import StreamKey
from journal.memory import MemoryJournal
from journal.port import Entry
from states import events as e
from states.events import VERSIONS, to_data
from states.evolve import evolve
from states.job import NEW

KEY = StreamKey("j-1", 1)
OFFERED = e.Offered("j-1", 1, {"job_id": "j-1"}, "0" * 64, 1)
FAILED = (e.Acked(), e.PrepStarted(), e.OutcomeKnown("E_DENY", "not allowed"), e.Delivered(200))
REFUSED = (e.Superseded("somebody else's", 409),)


class _Coordinator:
    """Answers with what it was given, in order."""

    def __init__(self, acks, fails):
        self.acks, self.fails, self.told = list(acks), list(fails), []

    async def ack(self, job_id, attempt):
        return self.acks.pop(0)

    async def fail(self, report):
        self.told.append(report)
        return self.fails.pop(0)


class _Turns:
    def turn(self, job):
        return self

    async def __aenter__(self):
        return None

    async def __aexit__(self, *_):
        return None

    def answered(self):
        """Take note."""

    def unanswered(self, reason, after_s):
        """Take note."""


class _Quiet:
    def info(self, event, **attrs):
        """Say nothing."""

    warning = info


async def _ready():
    return None


def _echo(coordinator, events):
    journal = MemoryJournal(boot_id="b", now_ns=lambda: 1)
    job = NEW
    for event in events:
        name, after = type(event).__name__, evolve(job, event)
        entry = Entry(name, VERSIONS[name], job.state, after.state, to_data(event))
        asyncio.run(journal.append(KEY, job.seq, [entry]))
        job = after
    session = SimpleNamespace(ready=_ready)
    parts = EchoParts(coordinator, session, SimpleNamespace(), _Turns(), journal.read, "node-1")
    clock, dice = SimpleNamespace(now_ns=lambda: 1), SimpleNamespace(roll=lambda: 0.5)
    return Echo(parts, clock=clock, dice=dice, log=_Quiet())


def _hear(echo, times):
    async def hear():
        for _ in range(times):
            await echo(KEY)

    asyncio.run(hear())


def test_a_delivered_failure_is_told_again_word_for_word_until_it_is_answered():
    coordinator = _Coordinator([Acked(None)], [Unknown("503"), Delivered(200)])
    _hear(_echo(coordinator, (OFFERED, *FAILED)), 2)
    assert len(coordinator.told) == 2
    assert coordinator.told[0] == coordinator.told[1]
    assert (coordinator.told[0].error_code, coordinator.told[0].error_msg) == ("E_DENY", "not allowed")


def test_an_attempt_that_never_began_is_told_as_lost():
    coordinator = _Coordinator([Acked(None)], [Delivered(200)])
    _hear(_echo(coordinator, (OFFERED, *REFUSED)), 2)
    (report,) = coordinator.told
    assert (report.error_code, report.retryable) == ("E_LOST", True)


def test_it_comes_at_the_second_the_fourth_and_the_eighth_time():
    coordinator = _Coordinator([Gone(409)] * 3, [])
    _hear(_echo(coordinator, (OFFERED, *FAILED)), 15)
    assert coordinator.acks == []
    assert coordinator.told == []


def test_what_is_not_over_is_not_told():
    coordinator = _Coordinator([], [])
    _hear(_echo(coordinator, (OFFERED,)), 16)
    assert coordinator.told == []
