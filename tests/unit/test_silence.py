"""A coordinator that does not answer what something waits for: said once, and for as long as it is so."""

import asyncio
from types import SimpleNamespace

from fsm_miner.coordinator.port import Acked, Gone, Reconciled, Unknown
from fsm_miner.effects import JobEffects
from fsm_miner.reconcile import Reconciler
from states import events as e
from states import instructions as i
from states.evolve import evolve
from states.job import NEW
from states.retry import Backoff

JOBS = [evolve(NEW, e.Offered(f"j-{n}", 1, {}, "0" * 64, 7)) for n in (1, 2)]
ACKED = evolve(JOBS[0], e.Acked(None))


class Log:
    def __init__(self):
        self.events = []

    def warning(self, event, **attrs):
        self.events.append(event)


class Clock:
    """Sleeping takes no time; `seen` looks around in each sleep."""

    def __init__(self, seen):
        self._seen = seen
        self.told = []

    async def sleep(self, seconds):
        self.told.append(self._seen())
        await asyncio.sleep(0)


async def ready():
    return None


SESSION = SimpleNamespace(ready=ready)
DICE = SimpleNamespace(roll=lambda: 0.5)


def test_a_reconciliation_without_an_answer_is_told_until_there_is_one():
    answers = [Unknown("HTTP 500")] * 3 + [Reconciled(frozenset())]
    opened = []

    async def reconcile(jobs):
        return answers.pop(0)

    log, clock = Log(), Clock(lambda: reconciler.trouble)
    reconciler = Reconciler(
        SimpleNamespace(reconcile=reconcile),
        SESSION,
        SimpleNamespace(open_admission=lambda: opened.append(True)),
        backoff=Backoff(1.0, 2.0),
        clock=clock,
        dice=DICE,
        log=log,
    )
    asyncio.run(reconciler.run([(ACKED, 7)]))
    assert log.events == ["reconcile_unanswered"]
    assert clock.told == ["the coordinator does not answer /jobs/reconcile: admission waits: HTTP 500"] * 3
    assert reconciler.trouble is None
    assert opened == [True]


def test_acks_without_an_answer_are_told_until_there_is_one_for_each():
    answers = {"j-1": [Unknown("HTTP 500"), Acked(None)], "j-2": [Unknown("HTTP 502")] * 2 + [Gone(409)]}

    async def ack(job_id, attempt):
        return answers[job_id].pop(0)

    log, clock = Log(), Clock(lambda: effects.troubles)
    effects = JobEffects(
        SimpleNamespace(ack=ack),
        SESSION,
        None,
        None,
        None,
        backoff=Backoff(1.0, 2.0),
        clock=clock,
        dice=DICE,
        log=log,
    )

    async def both():
        await asyncio.gather(*(effects.perform(job, i.AskAck()) for job in JOBS))

    asyncio.run(both())
    assert log.events == ["ack_unanswered"]
    assert clock.told == [
        ("the coordinator does not answer /jobs/ack: 1 job waits: HTTP 500",),
        ("the coordinator does not answer /jobs/ack: 2 jobs wait: HTTP 502",),
        ("the coordinator does not answer /jobs/ack: 1 job waits: HTTP 502",),
    ]
    assert effects.troubles == ()
