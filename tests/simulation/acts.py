"""What somebody does to the world, by name: the coordinator's operator, the node's, its disk, its clock."""

from collections.abc import Callable
from typing import Any

from states.admission import Capacity, Card
from tests.simulation.crash import CrashKind
from tests.simulation.disk import FSYNC_FAILS, FULL, READ_ONLY
from tests.simulation.virtual_time import EPOCH_NS

__all__ = ["ACTS", "OLDER", "ON_A_JOB"]

OLDER = "start again with a database older by minutes"

# Annotations name no World: it imports this.
Doing = Callable[[Any, Any], None]


def _slots(world, cpu) -> None:
    cards = tuple(Card(card.id, card.vram_mb, card.free_mb) for card in world.capacity.cards)
    world.next_capacity = Capacity(cpu, world.capacity.gpu, cards)


def _cards(world, sizes) -> None:
    cards = tuple(Card(f"GPU-{n}", mb, mb) for n, mb in enumerate(sizes))
    world.capacity = Capacity(world.capacity.cpu, world.capacity.gpu, cards)
    if (later := world.next_capacity) is not None:
        world.next_capacity = Capacity(later.cpu, later.gpu, cards)


def _clock(world, skew_s) -> None:
    """Set the wall clock right but for `skew_s`; None: to 1970, as after a dead battery."""
    right_s = EPOCH_NS / 1e9 + world.clock.now_s()
    world.clock.skew_s = 1.0 - right_s if skew_s is None else skew_s


def _trouble(what: str | None) -> Doing:
    def act(world, _about) -> None:
        world.disk.trouble = what

    return act


ACTS: dict[str, Doing] = {
    # The coordinator's side.
    "cancel": lambda world, job_id: world.server.cancel(job_id),
    "cancel, for ever": lambda world, job_id: world.server.cancel(job_id, for_ever=True),
    "give away": lambda world, job_id: world.server.give_away(job_id),
    "forget": lambda world, job_id: world.server.forget(job_id),
    "rotate tokens": lambda world, _: world.server.revoke_tokens(),
    OLDER: lambda world, _: world.server.restore(world.acting),
    # The node's operator.
    "kill -9": lambda world, _: world.life.kill(CrashKind.KILL),
    "power cut": lambda world, _: world.life.kill(CrashKind.POWER_CUT),
    "SIGTERM": lambda world, _: world.stop_asked.set(),
    "drain": lambda world, _: world.node.drain(True),
    "go on": lambda world, _: world.node.drain(False),
    "slots, from the next start on": _slots,
    "runs at most, from the next start on": lambda world, runs: setattr(world, "next_runs", runs),
    "backoff at most, from the next start on": lambda world, max_s: setattr(world, "next_backoff_s", max_s),
    "not allowed any more": lambda world, job_id: world.machine.not_allowed.add(job_id),
    "allowed again": lambda world, job_id: world.machine.not_allowed.discard(job_id),
    # The machine.
    "cards": _cards,
    "the clock is wrong by": _clock,
    "descriptors run out": lambda world, _: setattr(world.machine, "no_descriptors", True),
    "descriptors are there again": lambda world, _: setattr(world.machine, "no_descriptors", False),
    "the disk is full": _trouble(FULL),
    "the disk is read-only": _trouble(READ_ONLY),
    "fsync fails": _trouble(FSYNC_FAILS),
    "the disk is well": _trouble(None),
    "the disk takes up to": lambda world, slow_s: setattr(world.disk, "slow_s", slow_s),
}
ON_A_JOB = {"cancel", "cancel, for ever", "give away", "forget", "not allowed any more", "allowed again"}
