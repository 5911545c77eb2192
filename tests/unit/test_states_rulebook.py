"""The table: the rows, the library's reading of them, and what `evolve` does with an event that has none."""

import pytest

from states import events as e
from states.evolve import IllegalTransition, evolve, fold
from states.job import NEW
from states.table import FINAL, HOLDS_SLOT, RULEBOOK, TRANSITIONS, Guard, Rule, State, destinations
from tests.support.job_stages import (
    ABANDON,
    CANCEL,
    ENDED,
    STAGES,
    SUCCESS,
    intended,
    job_at,
    launched,
    offered,
)

EVENTS: dict[str, e.Event] = {
    "Offered": offered(),
    "Acked": e.Acked(60.0),
    "PrepStarted": e.PrepStarted(("GPU-1",)),
    "LaunchIntended": intended(),
    "Launched": launched(),
    "Reattached": e.Reattached(1, 815),
    "CancelRequested": CANCEL,
    "AbandonRequested": ABANDON,
    "LimitExceeded": e.LimitExceeded("E_OOM", "512 MiB"),
    "Ended": ENDED,
    "OutcomeKnown": SUCCESS,
    "OutcomeRevised": e.OutcomeRevised("E_UPLOAD", "413"),
    "RetryScheduled": e.RetryScheduled("PREP", "E_INPUT", "refused", 1.0, 0),
    "RetryDue": e.RetryDue(("GPU-1",)),
    "Delivered": e.Delivered(200),
    "Superseded": e.Superseded("moved on", 410),
}


def test_the_rulebook_has_the_rows_of_the_table_and_no_others():
    rows = [
        Rule(
            name,
            State(source),
            None if way.dest is None else State(way.dest),
            Guard(way.conditions[0].func) if way.conditions else None,
        )
        for name, event in RULEBOOK.events.items()
        for source, ways in event.transitions.items()
        for way in ways
    ]
    assert sorted(map(repr, rows)) == sorted(map(repr, TRANSITIONS))
    assert all(
        len(way.conditions) < 2 for e in RULEBOOK.events.values() for w in e.transitions.values() for way in w
    )
    assert set(RULEBOOK.states) == set(State)


def test_the_look_up_has_the_rows_of_the_table_and_no_others():
    rows = [
        (event, source, dest, guard)
        for (source, event), ways in destinations().items()
        for dest, guard in ways
    ]
    assert sorted(map(repr, rows)) == sorted(
        repr((r.event, r.source, r.source if r.dest is None else r.dest, r.guard)) for r in TRANSITIONS
    )


def test_every_event_is_in_the_table_and_every_trigger_is_an_event():
    assert {rule.event for rule in TRANSITIONS} == set(e.EVENTS) == set(EVENTS) == set(e.VERSIONS)


def test_the_end_is_the_end_and_every_other_state_has_a_way_out():
    sources = {rule.source for rule in TRANSITIONS if rule.dest is not None}
    assert sources == set(State) - FINAL
    assert {rule.source for rule in TRANSITIONS} == sources
    assert {State.DONE, State.FAILED} == FINAL
    assert {State.PREP, State.RUNNING} == HOLDS_SLOT


def test_an_acknowledged_job_reaches_the_end_only_from_uploading():
    assert {rule.source for rule in TRANSITIONS if rule.dest in FINAL} == {State.PULLING, State.UPLOADING}
    assert {rule.event for rule in TRANSITIONS if rule.dest is State.DONE} == {"Delivered"}


def _refusal(job, event):
    try:
        evolve(job, event)
    except IllegalTransition as error:
        return error
    return None


@pytest.mark.parametrize("stage", STAGES)
def test_what_is_not_in_the_table_is_illegal(stage):
    job = job_at(stage)
    allowed = {rule.event for rule in TRANSITIONS if rule.source is job.state}
    allowed -= {"OutcomeRevised"} if job.failure is not None else set()
    allowed -= {"CancelRequested"} if job.back_to_uploading else set()
    refusals = {name: _refusal(job, event) for name, event in EVENTS.items()}
    assert {name for name, refusal in refusals.items() if refusal is None} == allowed
    told = {name: refusal for name, refusal in refusals.items() if refusal is not None}
    assert all(told[name].job is job and told[name].event is EVENTS[name] for name in told)


def test_an_illegal_event_tells_the_jobs_story():
    with pytest.raises(IllegalTransition) as caught:
        fold([e.Launched(1, None, 0, 0)], job_at("ACKED"))
    assert (
        str(caught.value) == "j-1/1: Launched is illegal in ACKED; its story: 1:Offered→PULLING 2:Acked→ACKED"
    )


def test_an_illegal_first_event_is_told_too():
    with pytest.raises(IllegalTransition, match=r"\(new job\)/1: Acked is illegal in IDLE; .*no event yet"):
        evolve(NEW, e.Acked())


def test_the_story_is_bounded_and_ends_with_the_newest_step():
    job = fold([e.Reattached(1, n) for n in range(100)], job_at("RUNNING"))
    assert job.seq == 105
    assert [step.seq for step in job.story] == list(range(66, 106))


def test_a_jobs_manifest_cannot_be_changed_through_the_event():
    event = offered()
    job = evolve(NEW, event)
    event.manifest["command"] = "rm"  # type: ignore[index]
    assert job.manifest["command"] == "echo"
    with pytest.raises(TypeError):
        job.manifest["command"] = "rm"  # type: ignore[index]
