"""The echo: what is over here is told again when it is handed out again, now and then, and never runs."""

import asyncio
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest

from fsm_miner.coordinator.port import Acked, Delivered, FailureReport, Gone, Rejected, Unknown
from fsm_miner.echo import SWEPT, Echo, EchoParts
from fsm_miner.upload_files import Uploads
from journal import StreamKey
from journal.memory import MemoryJournal
from journal.port import Entry
from states import events as e
from states.codes import ErrorCode, Failure
from states.events import VERSIONS, to_data
from states.evolve import evolve
from states.job import NEW

KEY = StreamKey("j-1", 1)
OFFERED = e.Offered("j-1", 1, {"job_id": "j-1"}, "0" * 64, 1)
FAILED = (e.Acked(), e.PrepStarted(), e.OutcomeKnown("E_DENY", "not allowed"), e.Delivered(200))
DONE = (
    e.Acked(),
    e.PrepStarted(),
    e.LaunchIntended(1, "boot", "/lock", None, "/bin/true", "0" * 64, 60.0, 64, 10),
    e.Launched(1, 4711, 7, 7),
    e.Ended("exited", 0, None, 9, {}),
    e.OutcomeKnown(None, ""),
    e.Delivered(200),
)
REFUSED = (e.Superseded("somebody else's", 409),)


class _Coordinator:
    """Answers with what it was given, in order; notes what it was told."""

    def __init__(self, acks, answers):
        self.acks, self.answers, self.told = list(acks), list(answers), []

    async def ack(self, job_id, attempt):
        answer = self.acks.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def fail(self, report):
        self.told.append(report)
        return self.answers.pop(0)

    result = fail


class _Log:
    def __init__(self):
        self.events = []

    def info(self, event, **attrs):
        self.events.append(event)

    warning = info


class _Site:
    def __init__(self, parcel):
        self._parcel = parcel

    @asynccontextmanager
    async def parcel(self, job):
        if isinstance(self._parcel, Exception):
            raise self._parcel
        yield self._parcel


async def _ready():
    return None


def _echo(coordinator, events, parcel=None):
    journal = MemoryJournal(boot_id="b", now_ns=lambda: 1)
    job = NEW
    for event in events:
        name, after = type(event).__name__, evolve(job, event)
        entry = Entry(name, VERSIONS[name], job.state, after.state, to_data(event))
        asyncio.run(journal.append(KEY, job.seq, [entry]))
        job = after
    session = SimpleNamespace(ready=_ready)
    parts = EchoParts(coordinator, session, _Site(parcel), journal.read, "node-1")
    clock, dice = SimpleNamespace(now_ns=lambda: 1), SimpleNamespace(roll=lambda: 0.5)
    log = _Log()
    return Echo(parts, clock=clock, dice=dice, log=log), log


def _hear(echo, times, *, sealed=False):
    """Hand the attempt out `times` times, with all the time in the world in between."""

    async def hear():
        telling = asyncio.create_task(echo.run())
        for _ in range(times):
            echo(KEY, sealed=sealed)
            for _ in range(20):
                await asyncio.sleep(0)
        assert not telling.done()
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)

    asyncio.run(hear())


def test_a_delivered_failure_is_told_again_word_for_word():
    coordinator = _Coordinator([Acked(None)] * 2, [Delivered(200)] * 2)
    echo, log = _echo(coordinator, (OFFERED, *FAILED))
    _hear(echo, 4)
    assert coordinator.told[0] == coordinator.told[1]
    assert (coordinator.told[0].error_code, coordinator.told[0].error_msg) == ("E_DENY", "not allowed")
    assert log.events == ["told_again"] * 2


def test_a_try_without_an_answer_is_over_and_the_next_hand_out_is_another():
    coordinator = _Coordinator(
        [Acked(None), Unknown("503"), OSError(24, "EMFILE"), Acked(None)], [Unknown("503")]
    )
    coordinator.answers.append(Delivered(200))
    echo, log = _echo(coordinator, (OFFERED, *FAILED))
    _hear(echo, 7)  # at the second time, and the third, the fourth and the fifth
    assert log.events == ["echo_failed"] * 3 + ["told_again"]
    assert len(coordinator.told) == 2


def test_a_success_is_told_again_as_it_was():
    coordinator = _Coordinator([Acked(None)] * 2, [Delivered(200)] * 2)
    echo, _ = _echo(coordinator, (OFFERED, *DONE), Uploads((), None))
    _hear(echo, 4)
    assert coordinator.told[0] == coordinator.told[1]
    assert coordinator.told[0].metadata["exit_code"] == 0


@pytest.mark.parametrize(
    ("parcel", "answers"),
    [
        (Failure(ErrorCode.ARTIFACT, "gone"), [Delivered(200)]),
        (Uploads((), None), [Rejected(422, "no"), Delivered(200)]),
    ],
)
def test_a_success_whose_files_are_gone_or_refused_is_told_as_lost(parcel, answers):
    coordinator = _Coordinator([Acked(None)], answers)
    echo, _ = _echo(coordinator, (OFFERED, *DONE), parcel)
    _hear(echo, 3)
    report = coordinator.told[-1]
    assert report == FailureReport("j-1", 1, "E_LOST", SWEPT.message, None, retryable=True)


def test_a_disk_that_cannot_be_read_is_no_outcome():
    coordinator = _Coordinator([Acked(None)], [])
    echo, log = _echo(coordinator, (OFFERED, *DONE), OSError(5, "EIO"))
    _hear(echo, 2)
    assert (coordinator.told, log.events) == ([], ["echo_failed"])


def test_an_exported_stream_is_told_as_lost():
    coordinator = _Coordinator([Acked(None)], [Delivered(200)])
    echo, _ = _echo(coordinator, ())
    _hear(echo, 3, sealed=True)
    (report,) = coordinator.told
    assert report == FailureReport("j-1", 1, "E_LOST", SWEPT.message, None, retryable=True)


def test_an_attempt_that_never_began_is_told_as_lost():
    coordinator = _Coordinator([Acked(None)], [Delivered(200)])
    echo, _ = _echo(coordinator, (OFFERED, *REFUSED))
    _hear(echo, 2)
    (report,) = coordinator.told
    assert (report.error_code, report.retryable) == ("E_LOST", True)


def test_it_comes_at_the_second_the_fourth_and_the_eighth_time():
    coordinator = _Coordinator([Gone(409)] * 3, [])
    echo, _ = _echo(coordinator, (OFFERED, *FAILED))
    _hear(echo, 15)
    assert coordinator.acks == []
    assert coordinator.told == []


def test_who_hands_out_never_waits_and_only_one_is_under_way():
    coordinator = _Coordinator([], [])
    never = asyncio.Event()
    asked = []

    async def ack(job_id, attempt):
        asked.append(job_id)
        await never.wait()

    coordinator.ack = ack
    echo, _ = _echo(coordinator, (OFFERED, *FAILED))
    _hear(echo, 64)
    assert asked == ["j-1"]


def test_what_is_not_over_is_not_told():
    coordinator = _Coordinator([], [])
    echo, log = _echo(coordinator, (OFFERED,))
    _hear(echo, 16)
    assert (coordinator.told, log.events) == ([], [])
