"""What holds for every job, whatever happens to it: random histories of stimuli and events."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from states import events as e
from states.decide import decide
from states.due import due
from states.evolve import IllegalTransition, evolve, fold
from states.instructions import AwaitSlot, Launch, Wait
from states.job import NEW
from states.table import TRANSITIONS, State
from tests.support.job_histories import (
    EVENTS,
    POLICIES,
    WILD_STIMULI,
    FairWorld,
    Life,
    lives,
    stimuli_for,
)
from tests.support.job_stages import STIMULI

_WAYS = {(rule.source, rule.event): set() for rule in TRANSITIONS}
for _rule in TRANSITIONS:
    _WAYS[_rule.source, _rule.event].add(_rule.source if _rule.dest is None else _rule.dest)


def _stored(events):
    """The events as a journal gives them back."""
    return [e.decode(type(x).__name__, json.loads(json.dumps(e.to_data(x)))) for x in events]


class AnyLife(RuleBasedStateMachine):
    """A job, and the world doing to it what it likes. `decide` and `fold` raising is a failure."""

    @initialize(policy=POLICIES)
    def begin(self, policy):
        self.life = Life(policy)

    @rule(data=st.data())
    def something_likely_happens(self, data):
        before = self.life.job
        self._check(before, self.life.feel(data.draw(stimuli_for(before))))

    @rule(stimulus=WILD_STIMULI)
    def anything_happens(self, stimulus):
        before = self.life.job
        self._check(before, self.life.feel(stimulus))

    @precondition(lambda self: self.life.job.state is not State.IDLE and not self.life.job.final)
    @rule()
    def all_goes_well(self):
        before = self.life.job
        self._check(before, self.life.feel(FairWorld().perform(before)))

    def _check(self, before, events):
        job = before
        for event in events:
            after = evolve(job, event)
            assert after.state in _WAYS[job.state, type(event).__name__]
            job = after
        assert job == self.life.job
        if before.final:
            assert events == ()

    @invariant()
    def the_journal_tells_the_same_job(self):
        assert fold(_stored(self.life.events)) == self.life.job

    @invariant()
    def seq_counts_the_events(self):
        assert self.life.job.seq == len(self.life.events)

    @invariant()
    def something_is_due_as_long_as_the_job_lives(self):
        job = self.life.job
        assert (due(job) is None) == (job.final or job.state is State.IDLE)

    @invariant()
    def every_launch_was_intended_once(self):
        intended = [x.run for x in self.life.events if isinstance(x, e.LaunchIntended)]
        launched = [x.run for x in self.life.events if isinstance(x, e.Launched)]
        assert intended == sorted(set(intended))
        assert launched == sorted(set(launched))
        order = [x for x in self.life.events if isinstance(x, e.LaunchIntended | e.Launched)]
        for before, after in zip([None, *order], order, strict=False):
            if isinstance(after, e.Launched):
                assert isinstance(before, e.LaunchIntended)
                assert before.run == after.run

    @invariant()
    def runs_are_bounded(self):
        assert self.life.job.run <= self.life.policy.max_runs
        assert self.life.count(e.LaunchIntended) <= self.life.policy.max_runs

    @invariant()
    def the_outcome_is_known_once_and_then_nothing_is_started(self):
        names = [type(x).__name__ for x in self.life.events]
        assert names.count("OutcomeKnown") <= 1
        assert names.count("OutcomeRevised") <= 1
        assert self.life.job.outcome_known == ("OutcomeKnown" in names)
        if "OutcomeKnown" in names:
            later = names[names.index("OutcomeKnown") :]
            assert not {"LaunchIntended", "Launched", "PrepStarted", "Ended"} & set(later)

    @invariant()
    def an_acknowledged_job_ends_with_one_answer(self):
        answers = self.life.count(e.Delivered, e.Superseded)
        assert answers == (1 if self.life.job.final else 0)
        if self.life.count(e.Acked) and self.life.job.final:
            assert self.life.count(e.OutcomeKnown) == 1

    @invariant()
    def done_means_delivered_success(self):
        if self.life.job.state is State.DONE:
            assert self.life.job.succeeded
            assert isinstance(self.life.events[-1], e.Delivered)

    @invariant()
    def a_run_that_must_not_start_is_never_prepared(self):
        job = self.life.job
        if job.cancelled_by is not None or job.abandoned is not None:
            assert not isinstance(due(job), AwaitSlot)
            assert not (isinstance(due(job), Launch) and not due(job).only_look)
            assert not (isinstance(due(job), Wait) and job.back_to_prep)


TestAnyLife = AnyLife.TestCase
TestAnyLife.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)

_LIVES = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@given(lives(), EVENTS)
@_LIVES
def test_an_arbitrary_event_goes_by_the_table_or_changes_nothing(life, event):
    job, name = life.job, type(event).__name__
    kept = repr(job)
    try:
        after = evolve(job, event)
    except IllegalTransition as error:
        assert f"{name} is illegal in {job.state}" in str(error)  # noqa: PT017 - both ends are allowed
        assert str(error).endswith(f"{job.story[-1].event}→{job.state}")  # noqa: PT017
    else:
        assert after.state in _WAYS[job.state, name]
        assert after.seq == job.seq + 1
    assert repr(job) == kept


@given(st.lists(EVENTS, max_size=30), EVENTS)
@_LIVES
def test_events_alone_never_leave_the_table(events, last):
    """Not `decide`'s choice but anybody's: what the table takes is folded, the rest is refused."""
    job, taken = NEW, []
    for event in [*events, last]:
        try:
            job = evolve(job, event)
        except IllegalTransition:
            continue
        taken.append(event)
    assert fold(_stored(taken)) == job
    assert job.seq == len(taken)


@given(lives(), EVENTS, WILD_STIMULI)
@_LIVES
def test_the_end_is_final(life, event, stimulus):
    FairWorld().finish(life)
    assert decide(life.job, stimulus, life.policy) == ()
    with pytest.raises(IllegalTransition):
        evolve(life.job, event)


@given(lives())
@_LIVES
def test_in_a_fair_world_every_job_comes_to_its_end(life):
    world = FairWorld()
    already = life.job.final
    world.finish(life)
    assert life.count(e.Delivered, e.Superseded) == 1
    assert already or isinstance(life.events[-1], e.Delivered | e.Superseded)


@given(lives(), st.sampled_from(["cancel", "abandon"]))
@_LIVES
def test_a_job_that_is_stopped_starts_nothing_any_more(life, word):
    world = FairWorld()
    decided = life.job.outcome_known
    life.feel(STIMULI[word])
    intended = life.count(e.LaunchIntended)
    world.finish(life)
    assert world.launches == 0
    assert life.count(e.LaunchIntended) == intended
    assert life.job.state is State.FAILED or decided


@given(lives(), st.sampled_from(["cancel", "abandon"]))
@_LIVES
def test_asking_twice_is_asking_once(life, word):
    life.feel(STIMULI[word])
    assert life.feel(STIMULI[word]) == ()


@given(lives())
@_LIVES
def test_a_restart_at_any_moment_finds_the_same_instruction(life):
    assert due(fold(_stored(life.events))) == due(life.job)


@given(POLICIES)
@_LIVES
def test_a_job_that_is_always_lost_is_given_up_after_max_runs(policy):
    life, world = Life(policy), FairWorld()
    life.feel(STIMULI["offer"])
    while life.job.state is not State.UPLOADING:
        life.feel(STIMULI["lost"] if life.job.state is State.RUNNING else world.perform(life.job))
    assert world.launches == policy.max_runs
    assert life.job.failure is not None
    assert life.job.failure.code == "E_LOST"


@given(POLICIES)
def test_a_job_to_which_nothing_bad_happens_is_done(policy):
    life, world = Life(policy), FairWorld()
    life.feel(STIMULI["offer"])
    world.finish(life)
    assert life.job.state is State.DONE
    assert world.launches == 1
    assert [type(x).__name__ for x in life.events] == [
        "Offered",
        "Acked",
        "PrepStarted",
        "LaunchIntended",
        "Launched",
        "Ended",
        "OutcomeKnown",
        "Delivered",
    ]
