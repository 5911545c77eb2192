"""From a history that breaks a promise to the shortest that still breaks the same one.

Hypothesis shrinks what it drew itself. A seed's scenario was drawn by other dice, so it is shortened here: leave
out whatever can be left out, and make as usual whatever can be as usual, for as long as the same promise breaks.
"""

from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from itertools import pairwise
from typing import Any

from tests.simulation.acts import ON_A_JOB
from tests.simulation.coordinator import PATIENCE_S
from tests.simulation.scenario import Habits, JobSpec, Scenario
from tests.simulation.worksite import Behaviour
from tests.simulation.world import BrokenPromise, simulate

__all__ = ["shortest"]

TRIES_MAX = 400
_LISTS = ("jobs", "acts", "outages", "fates", "crashes", "ambiguous_appends", "downtime_s", "cards_mb")
_OTHER_DICE = (1,)
_NUMBERS = ("loss", "late_s", "latency_s", "defects", "cpu", "gpu", "downtime_s")
_FOR_ALL_ELSE_S = 1800.0
_GAP_S = 60.0
_ROUND_S = (0.0, 1.0, 10.0, 100.0, 1000.0, 4 * 3600.0)


def shortest(broken: BrokenPromise, tries_max: int = TRIES_MAX) -> BrokenPromise:
    """Return the shortest scenario that was found, as the promise that it breaks."""
    tries = start = 0
    while True:
        for number, shorter in enumerate(list(_shorter(broken.scenario))[start:], start):
            if tries >= tries_max:
                return broken
            tries += 1
            if (found := _breaks(shorter, broken.name)) is not None:
                broken, start = found, number  # what failed before will mostly fail again: go on from here
                break
        else:
            if start == 0:
                return broken
            start = 0


def _breaks(scenario: Scenario, name: str) -> BrokenPromise | None:
    """Try with the same dice, and with others: with less to roll for, the same ones fall otherwise."""
    for seed in (scenario.seed, *_OTHER_DICE):
        try:
            simulate(replace(scenario, seed=seed))
        except BrokenPromise as broken:
            if broken.name == name:
                return broken
    return None


def _shorter(scenario: Scenario) -> Iterator[Scenario]:
    """Yield scenarios with less in them, the greatest steps first."""
    yield from _closer(scenario)
    yield from _shorter_ends(scenario)
    for name in _LISTS:
        for fewer in _fewer(getattr(scenario, name)):
            if name != "jobs" or fewer:
                yield _without_strangers(replace(scenario, **{name: fewer}))
    usual = Scenario(scenario.seed, ())
    for name in _NUMBERS:
        if getattr(scenario, name) != getattr(usual, name):
            yield replace(scenario, **{name: getattr(usual, name)})
    yield from (replace(scenario, habits=habits) for habits in _plainer(scenario.habits, Habits()))
    for number, job in enumerate(scenario.jobs):
        yield from (_with(scenario, "jobs", number, plain) for plain in _plainer_job(job))
    for number, act in enumerate(scenario.acts):
        for at_s in _rounder(act.at_s):
            yield _with(scenario, "acts", number, replace(act, at_s=at_s))


def _shorter_ends(scenario: Scenario) -> Iterator[Scenario]:
    last_s = max(one.at_s for one in (*scenario.jobs, *scenario.acts))
    for name, least_s in {"ends_within_s": _needs_s(scenario), "fair_from_s": last_s}.items():
        for less in (least_s, *_rounder(getattr(scenario, name))):
            if least_s <= less < getattr(scenario, name):
                yield replace(scenario, **{name: less})


def _needs_s(scenario: Scenario) -> float:
    """How long the jobs may rightly take: four attempts, and a lease that a confused coordinator ends late."""
    times_s = [job.timeout_s if job.behaviour.hangs else job.behaviour.duration_s for job in scenario.jobs]
    return _FOR_ALL_ELSE_S + 4 * sum(times_s) + (PATIENCE_S if scenario.habits.lease_s is None else 0.0)


def _closer(scenario: Scenario) -> Iterator[Scenario]:
    """Close the gaps in which nobody does anything, the widest first."""
    times_s = sorted({0.0, scenario.fair_from_s, *(one.at_s for one in (*scenario.jobs, *scenario.acts))})
    gaps = sorted(((after - before, before) for before, after in pairwise(times_s)), reverse=True)
    for gap_s, start_s in gaps:
        if gap_s <= _GAP_S:
            return

        def moved(at_s: float, start_s: float = start_s, less_s: float = gap_s - _GAP_S / 2) -> float:
            return at_s if at_s <= start_s else max(start_s, at_s - less_s)

        yield replace(
            scenario,
            jobs=tuple(replace(job, at_s=moved(job.at_s)) for job in scenario.jobs),
            acts=tuple(replace(act, at_s=moved(act.at_s)) for act in scenario.acts),
            outages=tuple(
                replace(one, start_s=moved(one.start_s), end_s=moved(one.end_s)) for one in scenario.outages
            ),
            fair_from_s=moved(scenario.fair_from_s),
        )


def _plainer_job(job: JobSpec) -> Iterator[JobSpec]:
    yield from _plainer(job, JobSpec(job.job_id, job.at_s))
    yield from (replace(job, behaviour=plain) for plain in _plainer(job.behaviour, Behaviour()))
    yield from (replace(job, at_s=at_s) for at_s in _rounder(job.at_s))


def _fewer(some: Any) -> Iterator[Any]:
    """Yield nothing of it, halves of it, and all but one."""
    if not some:
        return
    items = (
        list(some.items())
        if isinstance(some, dict)
        else sorted(some)
        if isinstance(some, frozenset)
        else list(some)
    )
    kind: Callable[[Any], Any] = type(some)
    half = len(items) // 2
    parts = [[], items[:half], items[half:]] if half > 1 else [[]]
    parts += [items[:n] + items[n + 1 :] for n in range(len(items))] if len(items) > 1 else []
    yield from (kind(part) for part in parts)


def _plainer(value: Any, usual: Any) -> Iterator[Any]:
    """Yield the value as usual, then with one field as usual."""
    unusual = [one.name for one in fields(value) if getattr(value, one.name) != getattr(usual, one.name)]
    if len(unusual) > 1:
        yield usual
    yield from (replace(value, **{name: getattr(usual, name)}) for name in unusual)


def _rounder(at_s: float) -> Iterator[float]:
    yield from (less for less in (*_ROUND_S, float(round(at_s)), round(at_s, 1)) if less < at_s)


def _with(scenario: Scenario, name: str, number: int, value: Any) -> Scenario:
    values = list(getattr(scenario, name))
    values[number] = value
    return replace(scenario, **{name: tuple(values)})


def _without_strangers(scenario: Scenario) -> Scenario:
    """Leave out what is about jobs that were left out; never no downtime."""
    known = {job.job_id for job in scenario.jobs}
    acts = tuple(act for act in scenario.acts if act.what not in ON_A_JOB or act.about in known)
    return replace(scenario, acts=acts, downtime_s=scenario.downtime_s or (2.0,))
