"""Scenarios as Hypothesis draws them: explicit data, so that what it finds it can shorten."""

from dataclasses import replace

from hypothesis import strategies as st

from tests.simulation.acts import ACTS, OLDER, ON_A_JOB
from tests.simulation.crash import CrashKind
from tests.simulation.histories import CALLS
from tests.simulation.network import Fate, Outage
from tests.simulation.scenario import Act, Habits, JobSpec, Scenario
from tests.simulation.worksite import Behaviour

__all__ = ["scenarios"]

_JOBS_MAX = 3
_ABOUT = {
    OLDER: st.sampled_from([0.1, 1.0, 10.0]),
    "slots, from the next start on": st.integers(1, 3),
    "runs at most, from the next start on": st.integers(1, 4),
    "backoff at most, from the next start on": st.sampled_from([2.0, 0.1, 600.0]),
    "cards": st.sampled_from([(16000,), ()]),
    "the clock is wrong by": st.sampled_from([0.0, 60.0, -60.0, 86400.0, -86400.0, None]),
    "the disk takes up to": st.sampled_from([0.0, 1.0, 20.0]),
}


def _times(span_s: float) -> st.SearchStrategy[float]:
    return st.integers(0, int(span_s)).map(float)


def _likely() -> st.SearchStrategy[float]:
    return st.sampled_from([0.0, 0.3, 1.0])


def _behaviours() -> st.SearchStrategy[Behaviour]:
    lasts = st.sampled_from([1.0, 20.0, 200.0])
    return st.one_of(
        st.builds(Behaviour, lasts),
        st.builds(Behaviour, lasts, exit_code=st.just(3)),
        st.builds(Behaviour, lasts, signal=st.just(9)),
        st.builds(Behaviour, lasts, vanishes=st.just(True)),
        st.builds(Behaviour, lasts, stop_takes_s=st.just(30.0)),
        st.builds(Behaviour, hangs=st.just(True)),
        st.builds(Behaviour, input_failures=st.integers(1, 4)),
        st.builds(Behaviour, artifact_missing=st.just(True)),
    )


def _jobs(span_s: float) -> st.SearchStrategy[tuple[JobSpec, ...]]:
    one = st.builds(
        JobSpec,
        st.just("j"),
        _times(span_s),
        _behaviours(),
        gpu_mb=st.sampled_from([None, 6000]),
        artifacts=st.booleans(),
        secret=st.booleans(),
        timeout_s=st.sampled_from([300.0, 10.0]),
    )
    some = st.lists(one, min_size=1, max_size=_JOBS_MAX)
    return some.map(lambda jobs: tuple(replace(job, job_id=f"j-{n}") for n, job in enumerate(jobs)))


def _habits() -> st.SearchStrategy[Habits]:
    return st.builds(
        Habits,
        registration=st.booleans(),
        reconcile=st.booleans(),
        lease_s=st.sampled_from([60.0, 300.0, None]),
        token_life_s=st.sampled_from([None, 60.0]),
        token_lies=st.booleans(),
        requeue_here=_likely(),
        offer_again=st.sampled_from([0.0, 0.3]),
        fickle=st.sampled_from([0.0, 0.3]),
        garbage=st.sampled_from([0.0, 0.3]),
        rejects_results=st.booleans(),
    )


@st.composite
def _an_act(draw: st.DrawFn, span_s: float) -> Act:
    what = draw(st.sampled_from(list(ACTS)))
    about = _ABOUT.get(what, st.none())
    if what in ON_A_JOB:
        about = st.integers(0, _JOBS_MAX - 1).map(lambda number: f"j-{number}")
    return Act(draw(_times(span_s)), what, draw(about))


@st.composite
def _an_outage(draw: st.DrawFn, span_s: float) -> Outage:
    start_s, lasts_s = draw(_times(span_s)), draw(st.sampled_from([10.0, 100.0, 400.0]))
    fate = draw(st.sampled_from(list(Fate)[1:]))
    return Outage(start_s, start_s + lasts_s, fate, draw(st.frozensets(st.sampled_from(CALLS), max_size=3)))


def scenarios(span_s: float = 600.0) -> st.SearchStrategy[Scenario]:
    """Draw some minutes of trouble, then a fair world."""
    return st.builds(
        Scenario,
        seed=st.integers(0, 1000),
        jobs=_jobs(span_s),
        habits=_habits(),
        acts=st.lists(_an_act(span_s), max_size=6).map(tuple),
        loss=st.sampled_from([0.0, 0.1]),
        late_s=st.sampled_from([0.0, 60.0, 3600.0]),
        outages=st.lists(_an_outage(span_s), max_size=3).map(tuple),
        crashes=st.dictionaries(st.integers(1, 150), st.sampled_from(list(CrashKind)), max_size=3),
        downtime_s=st.tuples(st.sampled_from([2.0, 30.0, 400.0])),
        fair_from_s=st.just(span_s),
        ends_within_s=st.just(8 * 3600.0),
        ambiguous_appends=st.frozensets(st.integers(1, 60), max_size=3),
    )
