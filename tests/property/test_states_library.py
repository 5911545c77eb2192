"""`evolve` reads the rulebook by itself. Here the `transitions` library walks along, and they never differ."""

from hypothesis import given, settings
from hypothesis import strategies as st
from transitions import MachineError

from states.events import EVENTS as KINDS
from states.evolve import IllegalTransition, evolve
from states.job import NEW, Job
from states.table import Guard, machine
from tests.support.job_histories import EVENTS, lives


class Walker:
    """A model for the library's machine: it asks the guards of the job that `evolve` makes."""

    def __init__(self) -> None:
        self.job: Job = NEW

    succeeded = property(lambda self: self.job.succeeded)
    not_succeeded = property(lambda self: self.job.not_succeeded)
    back_to_prep = property(lambda self: self.job.back_to_prep)
    back_to_uploading = property(lambda self: self.job.back_to_uploading)


def _walk(events):
    walker = Walker()
    machine(walker)
    for event in events:
        name = type(event).__name__
        legal = {kind: getattr(walker, f"may_{kind}")() for kind in KINDS}
        try:
            library_went = walker.trigger(name)
        except MachineError:
            library_went = False
        try:
            after = evolve(walker.job, event)
        except IllegalTransition:
            after = None
        assert library_went == legal[name] == (after is not None)
        if after is not None:
            walker.job = after
        assert walker.state == walker.job.state
    return walker


@given(lives())
@settings(deadline=None)
def test_the_library_follows_every_history_of_decisions(life):
    assert _walk(life.events).job == life.job


@given(st.lists(EVENTS, min_size=1, max_size=20))
@settings(deadline=None, max_examples=50)
def test_the_library_refuses_what_evolve_refuses(events):
    _walk(events)


@given(lives(), st.lists(EVENTS, min_size=1, max_size=10))
@settings(deadline=None, max_examples=50)
def test_the_library_refuses_the_same_wherever_a_job_got_to(life, events):
    _walk([*life.events, *events])


def test_every_guard_is_asked_of_the_job():
    assert all(isinstance(getattr(Job, guard), property) for guard in Guard)
    assert all(isinstance(getattr(Walker, guard), property) for guard in Guard)
