"""Random histories: everything that a seed decides, and nothing else."""

import random
from collections.abc import Callable

from states.admission import Capacity, Card
from tests.simulation.coordinator import Habits
from tests.simulation.crash import CrashKind
from tests.simulation.network import Fate, Network, Outage
from tests.simulation.worksite import Behaviour
from tests.simulation.world import Act, JobSpec, Scenario, World

__all__ = ["history"]

_CALLS = ("register", "heartbeat", "pull", "ack", "progress", "result", "fail", "reconcile")


def history(seed: int) -> Scenario:
    """Return the scenario of a seed: some minutes to some hours of trouble, then a fair world."""
    chance = random.Random(seed)
    span_s = chance.choice([120.0, 900.0, 6 * 3600.0])
    jobs = [_job(chance, number, span_s) for number in range(chance.randint(1, 6))]
    longest_s = max(min(job.timeout_s, 2000.0) for job in jobs)
    cards = tuple(chance.choice([8000, 16000]) for _ in range(chance.randint(0, 2)))
    if not cards:
        jobs = [job for job in jobs if job.gpu_mb is None] or [JobSpec("j-0", 1.0, Behaviour())]
    return Scenario(
        seed=seed,
        jobs=jobs,
        habits=_habits(chance),
        acts=_acts(chance, jobs, span_s),
        network=_network(chance, span_s),
        crashes={chance.randint(1, 200): chance.choice(list(CrashKind)) for _ in range(chance.randint(0, 3))},
        downtime_s=tuple(chance.choice([0.5, 2.0, 30.0, 100.0, 4000.0]) for _ in range(5)),
        fair_from_s=span_s,
        ends_within_s=6 * 3600.0 + 20 * longest_s,
        cpu=chance.randint(1, 3),
        gpu=len(cards),
        cards_mb=cards,
        defects=chance.choice([0.0, 0.0, 0.05]),
        ambiguous_appends=frozenset(chance.randint(1, 60) for _ in range(3))
        if chance.random() < 0.2
        else frozenset(),
    )


def _job(chance: random.Random, number: int, span_s: float) -> JobSpec:
    how: Callable[[], Behaviour] = chance.choice(
        [
            lambda: Behaviour(chance.uniform(0.05, 20.0)),
            lambda: Behaviour(chance.uniform(0.05, 20.0), stop_takes_s=30.0),
            lambda: Behaviour(chance.uniform(60.0, 1500.0)),
            lambda: Behaviour(chance.uniform(0.05, 20.0), exit_code=chance.randint(1, 100)),
            lambda: Behaviour(chance.uniform(0.05, 20.0), signal=9),
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
        long_poll_s=chance.choice([0.0, 30.0]),
        requeue_here=chance.choice([0.0, 0.5, 1.0]),
        offer_again=chance.choice([0.0, 0.0, 0.3]),
        rejects_results=chance.random() < 0.1,
    )


def _network(chance: random.Random, span_s: float) -> Callable[[Network], None]:
    loss = chance.choice([0.0, 0.05, 0.3])
    outages: list[Outage] = []
    for _ in range(chance.randint(0, 3)):
        start_s = chance.uniform(0.0, span_s)
        calls = (
            frozenset(chance.sample(_CALLS, chance.randint(1, 3))) if chance.random() < 0.5 else frozenset()
        )
        fate = chance.choice([Fate.REQUEST_LOST, Fate.ANSWER_LOST, Fate.SERVER_ERROR, Fate.TOKEN_GONE])
        outages.append(Outage(start_s, start_s + chance.expovariate(4.0 / span_s), fate, calls))
    slowest_s = chance.choice([0.01, 0.2, 5.0])

    def arrange(network: Network) -> None:
        network.loss, network.outages, network.latency_s = loss, outages, (0.001, slowest_s)

    return arrange


def _acts(chance: random.Random, jobs: list[JobSpec], span_s: float) -> list[tuple[float, str, Act]]:
    acts: list[tuple[float, str, Act]] = []

    def at(label: str, act: Act, after_s: float = 0.0) -> None:
        acts.append((min(after_s or chance.uniform(0.0, span_s), span_s), label, act))

    for _ in range(chance.randint(0, 8)):
        job = chance.choice(jobs)
        soon_s = job.at_s + chance.expovariate(1 / 20.0)
        match chance.randint(0, 10):
            case 0:
                at(f"cancel {job.job_id}", _on_server("cancel", job.job_id), soon_s)
            case 1:
                at(f"give away {job.job_id}", _on_server("give_away", job.job_id), soon_s)
            case 2:
                at(f"forget {job.job_id}", _on_server("forget", job.job_id), soon_s)
            case 3:
                at("tokens are gone", lambda world: world.server.revoke_tokens())
            case 4 | 5:
                at("kill -9", _kill(CrashKind.KILL), soon_s)
            case 6:
                at("power cut", _kill(CrashKind.POWER_CUT), soon_s)
            case 7:
                at("SIGTERM", lambda world: world.stop_asked.set(), soon_s)
            case 8:
                start_s = chance.uniform(0.0, span_s)
                at("the disk is full", _disk_full(True), start_s)
                at("the disk has room", _disk_full(False), start_s + chance.expovariate(1 / 300.0))
            case 9:
                start_s = chance.uniform(0.0, span_s)
                at("drain", _drain(True), start_s)
                at("go on", _drain(False), start_s + chance.expovariate(1 / 60.0))
            case _:
                at("other slots from the next start on", _other_slots(chance.randint(1, 3)))
                at("SIGTERM", lambda world: world.stop_asked.set())
    return acts


def _on_server(what: str, job_id: str) -> Act:
    return lambda world: getattr(world.server, what)(job_id)


def _kill(kind: CrashKind) -> Act:
    return lambda world: world.life.kill(kind)


def _disk_full(full: bool) -> Act:
    def act(world: World) -> None:
        world.disk.full = full

    return act


def _drain(on: bool) -> Act:
    def act(world: World) -> None:
        world.node.drain(on)

    return act


def _other_slots(cpu: int) -> Act:
    def act(world: World) -> None:
        world.next_capacity = Capacity(
            cpu,
            world.capacity.gpu,
            tuple(Card(card.id, card.vram_mb, card.free_mb) for card in world.capacity.cards),
        )

    return act
