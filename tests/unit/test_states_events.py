"""Events as JSON: there and back, and what is none of ours."""

import json

import pytest

from states import events as e
from states.job import NEW, Job
from tests.support.job_stages import STAGES, job_at

ALL = {repr(event): event for events in STAGES.values() for event in events}


@pytest.mark.parametrize("event", ALL.values(), ids=lambda event: type(event).__name__)
def test_an_event_comes_back_from_its_json(event):
    text = json.dumps(e.to_data(event))
    assert e.decode(type(event).__name__, json.loads(text)) == event


def test_a_field_with_a_default_may_be_missing():
    assert e.decode("Acked", {}) == e.Acked(None)
    assert e.decode("PrepStarted", {}) == e.PrepStarted(())
    assert e.decode("Superseded", {"reason": "moved on"}) == e.Superseded("moved on")


@pytest.mark.parametrize(
    ("name", "data", "error"),
    [
        ("Exploded", {}, KeyError),
        ("acked", {}, KeyError),
        ("Delivered", {}, TypeError),
        ("Delivered", {"status": 200, "mood": "good"}, TypeError),
        ("Launched", {"run": 1, "pid": 1, "started_ns": 1, "started_boot_ns": 1, "isolation": 5}, TypeError),
    ],
)
def test_what_is_no_event_is_an_error(name, data, error):
    with pytest.raises(error):
        e.decode(name, data)


def test_decoding_leaves_the_data_as_it_was():
    data = {"gpus": ["GPU-1"]}
    assert e.decode("PrepStarted", data) == e.PrepStarted(("GPU-1",))
    assert data == {"gpus": ["GPU-1"]}


@pytest.mark.parametrize(
    ("requirements", "wants"),
    [
        ({"gpu": True}, True),
        ({"gpu": False}, False),
        ({"gpu": 1}, False),
        ({}, False),
        (None, False),
        ("gpu", False),
    ],
)
def test_a_job_wants_a_card_only_if_its_manifest_says_so(requirements, wants):
    assert Job(manifest={"requirements": requirements}).wants_gpu is wants
    assert NEW.wants_gpu is False


def test_a_job_holds_a_slot_from_preparing_to_its_outcome():
    holding = {stage for stage in STAGES if job_at(stage).holds_slot}
    assert holding == {stage for stage in STAGES if stage.startswith(("PREP", "RUNNING"))}
