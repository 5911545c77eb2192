"""Random histories: everything that a seed decides, and nothing else."""

import random
from collections.abc import Callable

from tests.simulation.acts import OLDER
from tests.simulation.crash import CrashKind
from tests.simulation.network import Fate, Outage
from tests.simulation.scenario import Act, Habits, JobSpec, Scenario
from tests.simulation.worksite import Behaviour

__all__ = ["CALLS", "history"]

CALLS = ("register", "heartbeat", "pull", "ack", "progress", "result", "fail", "reconcile")
_DAY_S = 86400.0
_JUMPS_S = (-365 * _DAY_S, -_DAY_S, -3600.0, -60.0, 60.0, 3600.0, _DAY_S, 365 * _DAY_S, None)


def history(seed: int) -> Scenario:
    """Return the scenario of a seed: some minutes to some days of trouble, then a fair world."""
    chance = random.Random(seed)
    span_s = chance.choice([120.0, 120.0, 900.0, 900.0, 6 * 3600.0, 6 * 3600.0, 3 * _DAY_S])
    if chance.random() < 0.9:
        span_s = min(span_s, 6 * 3600.0)
    jobs = [_job(chance, number, span_s) for number in range(chance.randint(1, 6))]
    longest_s = max(min(job.timeout_s, 2000.0) for job in jobs)
    cards = tuple(chance.choice([8000, 16000]) for _ in range(chance.randint(0, 2)))
    if not cards:
        jobs = [job for job in jobs if job.gpu_mb is None] or [JobSpec("j-0", 1.0)]
    return Scenario(
        seed=seed,
        jobs=tuple(jobs),
        habits=_habits(chance),
        acts=tuple(_acts(chance, jobs, span_s)),
        loss=chance.choice([0.0, 0.05, 0.3]),
        late_s=chance.choice([60.0, 3600.0, 3 * _DAY_S]),
        latency_s=(0.001, chance.choice([0.01, 0.2, 5.0])),
        outages=tuple(_outages(chance, span_s)),
        crashes={chance.randint(1, 200): chance.choice(list(CrashKind)) for _ in range(chance.randint(0, 3))},
        downtime_s=tuple(chance.choice([0.5, 2.0, 30.0, 100.0, 4000.0]) for _ in range(5)),
        fair_from_s=span_s,
        ends_within_s=8 * 3600.0 + 20 * longest_s,
        cpu=chance.randint(1, 3),
        gpu=len(cards),
        cards_mb=cards,
        defects=chance.choice([0.0, 0.0, 0.05]),
        ambiguous_appends=frozenset(chance.randint(1, 60) for _ in range(3))
        if chance.random() < 0.2
        else frozenset(),
    )


def _job(chance: random.Random, number: int, span_s: float) -> JobSpec:
    short_s = chance.uniform(0.05, 20.0)
    how: Callable[[], Behaviour] = chance.choice(
        [
            lambda: Behaviour(short_s),
            lambda: Behaviour(short_s, stop_takes_s=30.0),
            lambda: Behaviour(chance.uniform(60.0, 1500.0)),
            lambda: Behaviour(short_s, exit_code=chance.randint(1, 100)),
            lambda: Behaviour(short_s, signal=9),
            lambda: Behaviour(short_s, vanishes=True),
            lambda: Behaviour(hangs=True),
            lambda: Behaviour(30.0, hog_after_s=chance.uniform(0.5, 20.0)),
            lambda: Behaviour(5.0, input_failures=chance.randint(1, 4)),
            lambda: Behaviour(5.0, input_permanent=True),
            lambda: Behaviour(5.0, artifact_missing=True),
            lambda: Behaviour(launch_fails=True),
            lambda: Behaviour(denied=True),
        ]
    )
    return JobSpec(
        f"j-{number}",
        chance.uniform(0.0, span_s * 0.9),
        how(),
        gpu_mb=chance.choice([None, None, 6000]),
        artifacts=chance.random() < 0.5,
        secret=chance.random() < 0.3,
        timeout_s=chance.choice([10.0, 300.0, 3600.0]),
    )


def _habits(chance: random.Random) -> Habits:
    heartbeats = chance.random() < 0.85
    return Habits(
        registration=chance.random() < 0.85,
        heartbeats=heartbeats,
        reconcile=chance.random() < 0.7,
        progress=chance.random() < 0.8,
        lease_s=chance.choice([60.0, 300.0, None]) if heartbeats else None,
        token_life_s=chance.choice([None, 60.0, 600.0]),
        token_lies=chance.random() < 0.2,
        long_poll_s=chance.choice([0.0, 30.0]),
        requeue_here=chance.choice([0.0, 0.5, 1.0]),
        offer_again=chance.choice([0.0, 0.0, 0.3]),
        fickle=chance.choice([0.0, 0.0, 0.0, 0.05, 0.3]),
        garbage=chance.choice([0.0, 0.0, 0.0, 0.1]),
        rejects_results=chance.random() < 0.1,
    )


def _outages(chance: random.Random, span_s: float) -> list[Outage]:
    outages: list[Outage] = []
    for _ in range(chance.randint(0, 3)):
        start_s = chance.uniform(0.0, span_s)
        calls = (
            frozenset(chance.sample(CALLS, chance.randint(1, 3))) if chance.random() < 0.5 else frozenset()
        )
        fate = chance.choice([fate for fate in Fate if fate not in {Fate.OK, Fate.BUSY}])
        outages.append(Outage(start_s, start_s + chance.expovariate(4.0 / span_s), fate, calls))
    return outages


def _acts(chance: random.Random, jobs: list[JobSpec], span_s: float) -> list[Act]:
    acts: list[Act] = []
    for _ in range(chance.randint(0, 8)):
        job = chance.choice(jobs)
        soon_s = min(job.at_s + chance.expovariate(1 / 20.0), span_s)
        kind = chance.choice(list(_KINDS))
        acts.extend(
            Act(min(at_s, span_s), what, about)
            for at_s, what, about in _KINDS[kind](chance, job, soon_s, span_s)
        )
    return acts


_Drawn = list[tuple[float, str, object]]
_Draw = Callable[[random.Random, JobSpec, float, float], _Drawn]


def _once(what: str) -> _Draw:
    return lambda chance, job, soon_s, span_s: [(soon_s, what, None)]


def _on_a_job(what: str) -> _Draw:
    return lambda chance, job, soon_s, span_s: [(soon_s, what, job.job_id)]


def _for_a_while(begins: str, ends: str, mean_s: float) -> _Draw:
    def draw(chance: random.Random, job: JobSpec, soon_s: float, span_s: float) -> _Drawn:
        start_s = soon_s if chance.random() < 0.5 else chance.uniform(0.0, span_s)
        return [(start_s, begins, None), (start_s + chance.expovariate(1 / mean_s), ends, None)]

    return draw


def _rules(chance: random.Random, job: JobSpec, soon_s: float, span_s: float) -> _Drawn:
    until_s = soon_s + chance.expovariate(1 / 120.0)
    return [(soon_s, "not allowed any more", job.job_id), (until_s, "allowed again", job.job_id)]


def _configuration(chance: random.Random, job: JobSpec, soon_s: float, span_s: float) -> _Drawn:
    edit = chance.choice(
        [
            ("slots, from the next start on", chance.randint(1, 3)),
            ("runs at most, from the next start on", chance.randint(1, 5)),
            ("backoff at most, from the next start on", chance.choice([0.1, 2.0, 3600.0])),
        ]
    )
    return [(soon_s, *edit), (soon_s + chance.uniform(0.0, 30.0), "SIGTERM", None)]


def _clock(chance: random.Random, job: JobSpec, soon_s: float, span_s: float) -> _Drawn:
    acts: _Drawn = [(soon_s, "the clock is wrong by", chance.choice(_JUMPS_S))]
    if chance.random() < 0.3:  # a reboot with a wrong clock
        acts.append((soon_s, "power cut", None))
    if chance.random() < 0.7:  # somebody, or NTP, sets it right
        acts.append((soon_s + chance.expovariate(1 / 300.0), "the clock is wrong by", 0.0))
    return acts


def _slow(chance: random.Random, job: JobSpec, soon_s: float, span_s: float) -> _Drawn:
    until_s = soon_s + chance.expovariate(1 / 120.0)
    return [
        (soon_s, "the disk takes up to", chance.choice([0.5, 5.0, 30.0])),
        (until_s, "the disk takes up to", 0.0),
    ]


def _older(chance: random.Random, job: JobSpec, soon_s: float, span_s: float) -> _Drawn:
    return [(soon_s + chance.expovariate(1 / 60.0), OLDER, chance.choice([0.1, 0.5, 2.0, 60.0]))]


_KINDS: dict[str, _Draw] = {
    "cancel": _on_a_job("cancel"),
    "cancel late": _on_a_job("cancel, for ever"),
    "give away": _on_a_job("give away"),
    "forget": _on_a_job("forget"),
    "tokens": _once("rotate tokens"),
    "older database": _older,
    "older database again": _older,
    "kill": _once("kill -9"),
    "kill again": _once("kill -9"),
    "power cut": _once("power cut"),
    "stop": _once("SIGTERM"),
    "drain": _for_a_while("drain", "go on", 60.0),
    "full": _for_a_while("the disk is full", "the disk is well", 300.0),
    "read-only": _for_a_while("the disk is read-only", "the disk is well", 300.0),
    "fsync": _for_a_while("fsync fails", "the disk is well", 60.0),
    "descriptors": _for_a_while("descriptors run out", "descriptors are there again", 60.0),
    "slow": _slow,
    "clock": _clock,
    "allowlist": _rules,
    "configuration": _configuration,
}
