"""`due`: the one thing that each stage calls for."""

import pytest

from states import stimuli as s
from states.decide import decide
from states.due import due
from states.evolve import fold
from states.instructions import AskAck, AwaitSlot, Collect, Deliver, Launch, Prepare, Stop, Wait, Watch
from tests.support.job_stages import NOW_NS, POLICY, STAGES, STIMULI, job_at

DUE = {
    "IDLE": None,
    "PULLING": AskAck(),
    "PULLING, cancelled": AskAck(),
    "PULLING, the manifest is no good": AskAck(),
    "ACKED": AwaitSlot(),
    "PREP": Prepare(1),
    "PREP, launch intended": Launch(1, only_look=False),
    "PREP, launch intended, cancelled": Launch(1, only_look=True),
    "PREP, launch intended, abandoned": Launch(1, only_look=True),
    "RUNNING": Watch(1),
    "RUNNING, nothing to collect": Watch(1),
    "RUNNING, cancelled": Stop(1),
    "RUNNING, abandoned": Stop(1),
    "RUNNING, over a limit": Stop(1),
    "RUNNING, ended": Collect(1),
    "UPLOADING a success": Deliver(0),
    "UPLOADING a failure": Deliver(1),
    "RETRY_WAIT for a run": Wait(NOW_NS, 1.0),
    "RETRY_WAIT for a delivery": Wait(NOW_NS, 2.5),
    "DONE": None,
    "FAILED": None,
    "FAILED, superseded": None,
}


def test_the_table_has_every_stage():
    assert DUE.keys() == STAGES.keys()


@pytest.mark.parametrize("stage", DUE)
def test_due(stage):
    assert due(job_at(stage)) == DUE[stage]


def test_a_revised_outcome_is_a_new_delivery():
    job = job_at("UPLOADING a success")
    revised = fold(decide(job, STIMULI["delivery rejected"], POLICY), job)
    assert due(revised) != due(job)


def test_the_next_run_is_prepared_under_its_own_number():
    job = job_at("RETRY_WAIT for a run")
    assert due(fold(decide(job, s.SlotGranted(), POLICY), job)) == Prepare(2)
