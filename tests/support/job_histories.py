"""Random lives of jobs: strategies for stimuli and events, and a world in which everything goes well."""

from dataclasses import dataclass, field, fields
from typing import Any

from hypothesis import strategies as st

from states import events as e
from states import instructions as i
from states import stimuli as s
from states.codes import ErrorCode, Failure
from states.decide import decide
from states.due import due
from states.evolve import fold
from states.job import NEW, Job
from states.retry import Backoff, Policy
from states.table import State
from tests.support.job_stages import ARTIFACT, NOW_NS, STIMULI, gone, manifest

TEXT = st.text(max_size=8)
WORDS = st.sampled_from(["", "operator", "coordinator", "moved on"])
STATUSES = st.sampled_from([200, 404, 409, 410, 413, 422])
TIMES_NS = st.integers(0, 2**62)
CHANCES = st.floats(0, 1, exclude_max=True)
SECONDS = st.floats(0, 1e6)
COUNTS = st.integers(0, 10**6)
GPUS = st.lists(st.sampled_from(["GPU-1", "GPU-2"]), max_size=2, unique=True).map(tuple)
FAILURES = st.builds(Failure, st.sampled_from(ErrorCode), TEXT, st.booleans())
USAGE = st.dictionaries(st.sampled_from(["cpu_s", "max_rss_mb"]), SECONDS, max_size=2)
ARTIFACTS = st.lists(st.just(ARTIFACT), max_size=2).map(tuple)
MANIFESTS = st.builds(manifest, artifacts=st.booleans(), gpu=st.booleans()) | st.sampled_from(
    [{}, {"requirements": None, "artifacts": None}]
)
POLICIES = st.builds(
    Policy,
    max_runs=st.integers(1, 4),
    run_backoff=st.just(Backoff(0.5, 8.0)),
    delivery_backoff=st.just(Backoff(5.0, 120.0)),
)

_BY_NAME: dict[str, st.SearchStrategy[Any]] = {
    "attempt": st.integers(1, 3),
    "manifest": MANIFESTS,
    "problem": st.none() | FAILURES,
    "failure": FAILURES,
    "gpus": GPUS,
    "how": st.sampled_from(s.How),
    "usage": USAGE,
    "artifacts": ARTIFACTS,
    "chance": CHANCES,
    "isolation": st.just(("bwrap",)),
    "reason": WORDS,
    "by": WORDS,
}
_BY_TYPE = {
    "str": TEXT,
    "str | None": st.none() | TEXT,
    "int": COUNTS,
    "int | None": st.none() | COUNTS,
    "float": SECONDS,
    "float | None": st.none() | SECONDS,
    "bool": st.booleans(),
}
_CODES = st.sampled_from([code.value for code in ErrorCode])
# What events hold as text, and what of it the domain bounds.
_EVENT_FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "code": _CODES,
    "problem": st.none() | TEXT,
    "problem_code": st.none() | _CODES,
    "back_to": st.sampled_from(["PREP", "UPLOADING"]),
}


def _instances(kind: type, special: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    known = _BY_NAME | special
    parts = {}
    for f in fields(kind):
        type_name = f.type.__name__ if isinstance(f.type, type) else str(f.type)
        assert f.name in known or type_name in _BY_TYPE, (
            f"no strategy for {kind.__name__}.{f.name}: {type_name}"
        )
        parts[f.name] = known[f.name] if f.name in known else _BY_TYPE[type_name]
    return st.builds(kind, **parts)


WILD_STIMULI: st.SearchStrategy[s.Stimulus] = st.one_of([_instances(k, {}) for k in s.Stimulus.__args__])
EVENTS: st.SearchStrategy[e.Event] = st.one_of(
    [
        _instances(kind, _EVENT_FIELDS | ({"code": st.none() | _CODES} if kind is e.OutcomeKnown else {}))
        for kind in e.EVENTS.values()
    ]
)

# What an effect may answer, by the instruction; so that histories get far.
ANSWERS: dict[type, tuple[str, ...]] = {
    i.AskAck: ("ack granted", "ack granted", "ack granted", "ack refused"),
    i.AwaitSlot: ("slot granted", "slot granted", "slot granted", "slot impossible"),
    i.Prepare: (
        "prep done",
        "prep done",
        "prep done",
        "prep failed",
        "prep failed for good",
        "effect failed",
    ),
    i.Launch: ("launch succeeded", "launch succeeded", "launch failed", "effect failed"),
    i.Watch: ("process found", "exited 0", "exited 0", "exited 3", "lost", "lost", "signalled", "limit hit"),
    i.Stop: ("signalled", "exited 0", "lost", "effect failed"),
    i.Collect: ("artifacts collected", "artifacts refused", "effect failed"),
    i.Deliver: (
        "delivered",
        "delivery unknown",
        "delivery rejected",
        "artifacts refused",
        "delivery refused",
    ),
    i.Wait: ("slot granted", "timer fired", "slot impossible"),
}


@st.composite
def stimuli_for(draw: st.DrawFn, job: Job) -> s.Stimulus:
    """Draw what may happen to this job next: mostly what its instruction may bring, sometimes anything."""
    instruction = due(job)
    wild = draw(st.integers(0, 9))
    if wild == 0:
        return draw(WILD_STIMULI)
    if wild == 1:
        return STIMULI[draw(st.sampled_from(["cancel", "abandon"]))]
    if instruction is None:
        return draw(_instances(s.OfferReceived, {}))
    return STIMULI[draw(st.sampled_from(ANSWERS[type(instruction)]))]


@dataclass
class Life:
    """A job, with every event it had."""

    policy: Policy
    job: Job = NEW
    events: list[e.Event] = field(default_factory=list)

    def feel(self, stimulus: s.Stimulus) -> tuple[e.Event, ...]:
        """Let a stimulus happen; return what followed."""
        events = decide(self.job, stimulus, self.policy)
        self.job = fold(events, self.job)
        self.events += events
        return events

    def count(self, *kinds: type) -> int:
        return sum(isinstance(event, kinds) for event in self.events)


@st.composite
def lives(draw: st.DrawFn, steps_max: int = 25) -> Life:
    """Draw a reachable job, with its history; most are still going on."""
    life = Life(draw(POLICIES))
    life.feel(draw(_instances(s.OfferReceived, {})))
    for _ in range(draw(st.integers(0, steps_max))):
        if life.job.final:
            break
        life.feel(draw(stimuli_for(life.job)))
    return life


class FairWorld:
    """Does what is due, and succeeds. Counts the processes it starts."""

    def __init__(self) -> None:
        self.launches = 0

    def perform(self, job: Job) -> s.Stimulus:
        match due(job):
            case i.AskAck():
                return s.AckGranted(60.0)
            case i.AwaitSlot():
                return s.SlotGranted()
            case i.Prepare(run):
                return s.PrepDone("boot-1", f"{run}.lock", None, "/usr/bin/echo", "ef" * 32, 60.0, 512, 100)
            case i.Launch(_, only_look=True):
                return s.LaunchFailed(Failure(ErrorCode.INTERNAL, "it was never started"))
            case i.Launch():
                self.launches += 1
                return s.LaunchSucceeded(4711, NOW_NS, 1)
            case i.Watch():
                return gone(s.How.EXITED, 0)
            case i.Stop():
                return gone(s.How.SIGNALLED, None, 15)
            case i.Collect():
                return s.ArtifactsCollected((ARTIFACT,))
            case i.Deliver():
                return s.DeliveryDone(200)
            case i.Wait():
                return s.SlotGranted() if job.back_to_prep else s.RetryTimerFired()
            case None:
                raise AssertionError(f"nothing is due in {job.state}")

    def finish(self, life: Life, steps_max: int = 12) -> None:
        """Do what is due until the job is final. AssertionError: it takes more than `steps_max`."""
        for _ in range(steps_max):
            if life.job.state in {State.DONE, State.FAILED}:
                return
            assert life.feel(self.perform(life.job)), f"{due(life.job)} brought nothing in {life.job}"
        assert life.job.final, f"after {steps_max} steps: {life.job}"
