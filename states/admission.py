"""Admission: which jobs get a slot, and which card. First in, first out, each kind in its own line.

A CPU job takes one of the CPU slots, a GPU job one of the GPU slots and one card of its own: of those that are
large enough, the one with the least memory in use. A job holds its slot in PREP and RUNNING.

Two attempts of one job never run at once: the later one waits until the earlier one has let go of its slot.

A GPU job whose cards are all busy lets later ones pass that are content with a card too small for it: the card
would only stand idle. It loses nothing by that, because a card that is large enough comes free together with
the slot of the job that held it, and then the earliest job is asked first.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from states.codes import ErrorCode, Failure
from states.job import Job
from states.table import State

__all__ = ["Capacity", "Card", "Grant", "Impossible", "Room", "admit", "never", "room"]


@dataclass(frozen=True, slots=True)
class Card:
    """A GPU (or MIG instance) as the last probe saw it. Sizes in MiB."""

    id: str
    vram_mb: int
    free_mb: int

    @property
    def used_mb(self) -> int:
        """Memory in use, by anybody."""
        return self.vram_mb - self.free_mb


@dataclass(frozen=True, slots=True)
class Capacity:
    """What the node has: slots of each kind, and cards."""

    cpu: int
    gpu: int
    cards: tuple[Card, ...] = ()

    def __post_init__(self) -> None:
        if self.cpu < 0 or self.gpu < 0:
            raise ValueError(f"slots can't be negative: {self.cpu} CPU, {self.gpu} GPU")


@dataclass(frozen=True, slots=True)
class Grant:
    """The job may start, with these cards."""

    job: Job
    gpus: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Impossible:
    """This node can't ever hold the job."""

    job: Job
    failure: Failure


@dataclass(frozen=True, slots=True)
class Room:
    """What may be pulled for: free slots and the free memory of free cards, in MiB."""

    cpu_slots: int
    gpus_free_mb: tuple[int, ...]

    @property
    def any(self) -> bool:
        """Whether there is room for anything at all."""
        return self.cpu_slots > 0 or bool(self.gpus_free_mb)


def admit(waiting: Sequence[Job], jobs: Iterable[Job], capacity: Capacity) -> list[Grant | Impossible]:
    """Decide on the jobs in `waiting` (those whose time has come), in order, given all `jobs` of the node.

    The answers never exceed the capacity together with the slots held already. A job that gets no answer waits on.
    """
    held = [job for job in jobs if job.holds_slot]
    cpu_free = capacity.cpu - sum(not job.wants_gpu for job in held)
    gpu_free = capacity.gpu - sum(job.wants_gpu for job in held)
    busy = {card for job in held for card in job.gpus}
    working = {job.job_id for job in held}
    answers: list[Grant | Impossible] = []
    for job in sorted(waiting, key=_order):
        if job.job_id in working:
            continue
        failure = never(capacity, gpu=job.wants_gpu, vram_mb=_vram_mb(job))
        if failure is not None:
            answers.append(Impossible(job, failure))
            continue
        if not job.wants_gpu:
            if cpu_free > 0:
                cpu_free -= 1
                working.add(job.job_id)
                answers.append(Grant(job, ()))
            continue
        free = [card for card in capacity.cards if card.vram_mb >= _vram_mb(job) and card.id not in busy]
        if gpu_free > 0 and free:
            card = min(free, key=lambda card: (card.used_mb, card.id))
            gpu_free -= 1
            working.add(job.job_id)
            busy.add(card.id)
            answers.append(Grant(job, (card.id,)))
    return answers


def never(capacity: Capacity, *, gpu: bool, vram_mb: int) -> Failure | None:
    """Return why a job can't ever get a slot here, however long it waits; None if it can. `vram_mb` in MiB."""
    if not gpu:
        return Failure(ErrorCode.NORESOURCE, "this node has no CPU slots") if capacity.cpu == 0 else None
    if capacity.gpu == 0:
        why = "this node takes no GPU jobs (resources.max_concurrent_gpu is 0)"
    elif not capacity.cards:
        why = "no GPU is there now"
    elif (largest := max(card.vram_mb for card in capacity.cards)) < vram_mb:
        why = f"the job wants {vram_mb} MiB of video memory; the largest card here has {largest} MiB"
    else:
        return None
    return Failure(ErrorCode.NOGPU, why)


def room(jobs: Iterable[Job], capacity: Capacity) -> Room:
    """Return what may be pulled for: slots and cards that no job of the node holds or is going to take."""
    known = list(jobs)
    coming = [job for job in known if _will_want_slot(job)]
    claims = [job for job in known if job.holds_slot] + coming
    cpu = capacity.cpu - sum(not job.wants_gpu for job in claims)
    gpu = capacity.gpu - sum(job.wants_gpu for job in claims)
    taken = {card for job in known if job.holds_slot for card in job.gpus}
    taken.update(
        card for answer in admit(coming, known, capacity) if isinstance(answer, Grant) for card in answer.gpus
    )
    free = sorted((card.free_mb for card in capacity.cards if card.id not in taken), reverse=True)
    return Room(max(cpu, 0), tuple(free[: max(gpu, 0)]))


def _will_want_slot(job: Job) -> bool:
    return job.state in {State.PULLING, State.ACKED} or (job.state is State.RETRY_WAIT and job.back_to_prep)


def _order(job: Job) -> tuple[int, str, int]:
    return (job.offered_ns, job.job_id, job.attempt)


def _vram_mb(job: Job) -> int:
    wanted = job.requirements.get("vram_mb")
    return wanted if isinstance(wanted, int) and not isinstance(wanted, bool) else 0
