"""Planted defects: a simulator that does not notice these would be no test of anything."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, find, settings

from fsm_miner.coordinator.port import Reconciled, Unknown
from fsm_miner.delivery import Delivery
from fsm_miner.heartbeat import Heartbeat
from fsm_miner.outbox import Outbox
from fsm_miner.pull import Pull
from fsm_miner.reconcile import Reconciler
from fsm_miner.supervisor import Supervisor
from states import stimuli as s
from states.admission import Room
from tests.simulation import found, scenario
from tests.simulation.crash import CrashKind
from tests.simulation.drawn import scenarios
from tests.simulation.found import FOUND
from tests.simulation.histories import history
from tests.simulation.scenario import Act, JobSpec, Scenario, written
from tests.simulation.scripts import SCRIPTS
from tests.simulation.shortest import shortest
from tests.simulation.worksite import Behaviour
from tests.simulation.world import BrokenPromise, simulate


class ActsBeforeWriting(Supervisor):
    """Believes a stimulus before the journal has it."""

    async def _step(self, live, stimulus, *, patient):
        if isinstance(stimulus, s.PrepDone):
            intent = s.PrepDone("boot-1", "", None, "", "", 1.0, 1, 1)
            await self._effects._worksite.launch(live.job._replace(intent=intent), only_look=False)
        return await super()._step(live, stimulus, patient=patient)


class TakesSilenceForNo(Supervisor):
    """Gives a job up because its delivery was not answered."""

    async def _step(self, live, stimulus, *, patient):
        if isinstance(stimulus, s.DeliveryUnknown):
            stimulus = s.DeliveryRefused(0)
        return await super()._step(live, stimulus, patient=patient)


class NamesTheNameless(Supervisor):
    """Counts a job in before its offer is written down."""

    def jobs(self):
        return [live.job for live in self._live.values()]


class CountsNothing(Supervisor):
    """Pulls without end and grants every slot that is asked for."""

    def room(self):
        return Room(5, ())

    async def _admission(self):
        while not self._stopping:
            await self._admission_wanted.wait()
            self._admission_wanted.clear()
            for key, live in list(self._live.items()):
                if live.job.state == "ACKED":
                    await self.feed(key, s.SlotGranted())


class ForgetsToStart(Supervisor):
    """Never opens admission."""

    def open_admission(self):
        pass


class LetsGo(Supervisor):
    """Calls a run over that was only cancelled, without stopping it."""

    async def _perform(self, live, instruction):
        if type(instruction).__name__ == "Stop":
            gone = s.ProcessGone(s.How.SIGNALLED, None, 15, 0, 0, 0.0)
            live.task = None
            await self._step(live, gone, patient=True)
            self._act(live)
            return
        await super()._perform(live, instruction)


class Forgetful(Supervisor):
    """Starts with the journal, but without what the machine has of the run."""

    def recover(self, found):
        for run in list(self._effects._worksite._machine.runs):
            del self._effects._worksite._machine.runs[run]
        super().recover(found)


class AbandonsOnSilence(Reconciler):
    """Takes an unanswered question after a restart for the answer that nothing is wanted."""

    async def _reconcile(self, asked):
        answer = await self._coordinator.reconcile([])
        if isinstance(answer, Unknown):
            for job, _ in asked:
                await self._abandon(job, "no answer")
        return isinstance(answer, Reconciled)


class SaysItAnew(Delivery):
    """Writes the time of the delivery into the result."""

    def _metadata(self, job):
        return {**super()._metadata(job), "finished_at": self._clock.now_ns()}


class Crowd(Outbox):
    """Lets all outcomes go at once."""

    @asynccontextmanager
    async def turn(self, job):
        yield


class NewestFirst(Outbox):
    """Gives the turn to whoever came last."""

    def _pause_s(self, me):
        self._waiting.reverse()
        pause_s = super()._pause_s(me)
        self._waiting.reverse()
        return pause_s


class GivesUp(Heartbeat):
    """Ends at the first heartbeat that was not answered."""

    def _pause_s(self, failures, after_s):
        if failures:
            raise RuntimeError("nobody answers")
        return super()._pause_s(failures, after_s)


class Greedy(Pull):
    """Pulls whatever speaks against it."""

    def __init__(self, *args, **more):
        super().__init__(*args, **more)
        self._why_not = lambda: None


class Impatient(Pull):
    """Asks again at once when nobody answers."""

    async def _pull_once(self, room):
        await super()._pull_once(room)
        return 0.1


class Silent:
    """Ignores what is handed out again."""

    def __init__(self, parts, **more):
        pass

    def __call__(self, key, *, sealed):
        pass

    async def run(self):
        await asyncio.Event().wait()


_MANY = Scenario(
    1,
    tuple(JobSpec(f"j{n}", 0.1, Behaviour(1.0 + n)) for n in range(5)),
    cpu=5,
    acts=(Act(0.9, "rotate tokens"),),
    outages=(found.Outage(0.9, 60.0, found.Fate.REQUEST_LOST, frozenset({"register", "heartbeat"})),),
    fair_from_s=70.0,
)
_DRAIN = replace(SCRIPTS["two jobs, one slot"](), acts=(Act(0.05, "drain"), Act(60.0, "go on")))
_BUSY = replace(
    SCRIPTS["success"](),
    outages=(found.Outage(2.0, 200.0, found.Fate.SERVER_ERROR),),
    fair_from_s=200.0,
)
_SLOW = replace(
    SCRIPTS["success"](),
    acts=(Act(0.0, "the disk takes up to", 60.0), Act(200.0, "the disk takes up to", 0.0)),
    fair_from_s=200.0,
)
_ASKED = Scenario(
    1,
    (JobSpec("j1", 0.1, Behaviour(60.0)),),
    acts=(Act(1.5, "kill -9"),),
    fates={("reconcile", 1): found.Fate.REQUEST_LOST},
    fair_from_s=100.0,
)


def _script(name, **changes):
    return replace(SCRIPTS[name](), **changes)


_LAUNCHED = simulate(SCRIPTS["success"]()).points.index("after launch j1/1") + 1


@pytest.mark.parametrize(
    ("scenario", "part", "defect", "name"),
    [
        (_script("success"), "supervisor", ActsBeforeWriting, "write-ahead"),
        (_script("answers get lost"), "supervisor", TakesSilenceForNo, "word-given"),
        (_script("two jobs, one slot"), "supervisor", CountsNothing, "slots"),
        (_script("success"), "supervisor", ForgetsToStart, "ends"),
        (_script("cancelled while it runs"), "supervisor", LetsGo, "end-first"),
        (_script("success", crashes={_LAUNCHED: CrashKind.KILL}), "supervisor", Forgetful, "one-launch"),
        (_ASKED, "reconciler", AbandonsOnSilence, "word-given"),
        (_script("answers get lost"), "delivery", SaysItAnew, "one-content"),
        (_MANY, "outbox", Crowd, "few-deliveries"),
        (_MANY, "outbox", NewestFirst, "oldest-first"),
        (_BUSY, "heartbeat", GivesUp, "loops"),
        (_SLOW, "supervisor", NamesTheNameless, "named"),
        (_DRAIN, "pull", Greedy, "held-back"),
        (_BUSY, "pull", Impatient, "no-storm"),
        *((one, "echo", Silent, "ends") for one in list(FOUND.values())[-2:]),
    ],
)
def test_a_planted_defect_is_noticed(scenario, part, defect, name):
    with pytest.raises(BrokenPromise) as caught:
        simulate(replace(scenario, parts={part: defect}))
    assert caught.value.name == name
    simulate(scenario)  # and without it nothing is broken


# What is printed.


def _first_broken(parts):
    for seed in range(200):
        drawn = history(seed)
        if drawn.fair_from_s > 900.0:
            continue  # takes long to shorten
        try:
            simulate(replace(drawn, parts=parts))
        except BrokenPromise as broken:
            return broken
    raise AssertionError("no seed notices")


@pytest.mark.parametrize(("part", "defect"), [("supervisor", TakesSilenceForNo), ("pull", Greedy)])
def test_what_a_seed_finds_is_shortened_and_the_short_one_does_it_again(part, defect):
    broken = _first_broken({part: defect})
    short = shortest(broken, tries_max=120)
    assert short.name == broken.name
    assert len(short.scenario.jobs) == 1
    assert len(short.scenario.acts) + len(short.scenario.outages) + len(short.scenario.crashes) <= 2
    assert len(short.history) < 60
    told = str(short).splitlines()
    assert told[-1].startswith(f"BROKEN: {short.name}: ")
    again = eval(told[0], {**vars(found), **vars(scenario)})
    assert written(again) == told[0]
    with pytest.raises(BrokenPromise) as caught:
        simulate(replace(again, parts={part: defect}))
    assert str(caught.value) == str(short)


def test_hypothesis_finds_a_planted_defect_and_shortens_it():
    def breaks(drawn):
        try:
            simulate(replace(drawn, parts={"supervisor": TakesSilenceForNo}))
        except BrokenPromise as broken:
            found.append(broken)
            return True
        return False

    found = []
    quick = settings(
        max_examples=60,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    short = find(scenarios(60.0), breaks, settings=quick)
    assert len(written(short)) < len(written(found[0].scenario))
    last = next(broken for broken in reversed(found) if broken.scenario.jobs == short.jobs)
    shorter = shortest(last, tries_max=60)
    assert len(shorter.scenario.jobs) == 1
    assert len(shorter.history) < 60
