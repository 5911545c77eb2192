"""Planted defects: a simulator that does not notice these would be no test of anything."""

import pytest

from fsm_miner.supervisor import Supervisor
from states import stimuli as s
from states.admission import Room
from tests.simulation.crash import CrashKind
from tests.simulation.scripts import SCRIPTS
from tests.simulation.world import BrokenPromise, simulate


def _with(name, supervisor, **changes):
    scenario = SCRIPTS[name]()
    scenario.supervisor = supervisor
    for attribute, value in changes.items():
        setattr(scenario, attribute, value)
    return scenario


class ActsBeforeWriting(Supervisor):
    """Believes a stimulus before the journal has it."""

    async def _step(self, live, stimulus, *, patient):
        if isinstance(stimulus, s.PrepDone):
            job = live.job._replace(intent=None)
            await self._effects._worksite.launch(job, only_look=False)
        return await super()._step(live, stimulus, patient=patient)


class TakesSilenceForNo(Supervisor):
    """Gives a job up because its delivery was not answered."""

    async def _step(self, live, stimulus, *, patient):
        if isinstance(stimulus, s.DeliveryUnknown):
            stimulus = s.DeliveryRefused(0)
        return await super()._step(live, stimulus, patient=patient)


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


@pytest.mark.parametrize(
    ("name", "supervisor", "complaint"),
    [
        ("success", ActsBeforeWriting, "without intent"),
        ("answers get lost", TakesSilenceForNo, "Superseded, but the coordinator said only"),
        ("two jobs, one slot", CountsNothing, "CPU slot number 2 of 1"),
        ("success", ForgetsToStart, "not over in time"),
        ("cancelled while it runs", LetsGo, "lives"),
    ],
)
def test_a_planted_defect_is_noticed(name, supervisor, complaint):
    with pytest.raises(BrokenPromise, match=complaint):
        simulate(_with(name, supervisor))


def test_a_run_that_is_launched_again_after_a_crash_is_noticed():
    class Forgetful(Supervisor):
        """Starts with the journal, but without what the machine has of the run."""

        def recover(self, found):
            for run in list(self._effects._worksite._machine.runs):
                del self._effects._worksite._machine.runs[run]
            super().recover(found)

    points = simulate(SCRIPTS["success"]()).points
    point = points.index("after launch j1/1") + 1
    with pytest.raises(BrokenPromise, match="was launched 2 times"):
        simulate(_with("success", Forgetful, crashes={point: CrashKind.KILL}))
