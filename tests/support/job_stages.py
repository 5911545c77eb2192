"""Jobs at every stage of their life, made by the events that lead there, and one of each stimulus."""

from states import events as e
from states import stimuli as s
from states.codes import ErrorCode, Failure
from states.events import Event
from states.evolve import fold
from states.job import Job
from states.retry import Policy

NOW_NS = 1_800_000_000_000_000_000
POLICY = Policy()
DENIED = Failure(ErrorCode.DENY, "allowlist.d/ffmpeg.yaml: no rule for this argument")
UNFETCHED = Failure(ErrorCode.INPUT, "input.urls[0]: connection refused")
ARTIFACT = {"path": "output.txt", "type": "text/plain", "size": 5, "sha256": "ab" * 32}


def manifest(*, artifacts: bool = True, gpu: bool = False, vram_mb: int = 0) -> dict[str, object]:
    declared = [{"path": "output.txt", "type": "text/plain", "max_mb": 1}] if artifacts else []
    return {
        "runner": "cli",
        "command": "echo",
        "artifacts": declared,
        "requirements": {"gpu": gpu, "vram_mb": vram_mb},
    }


def offered(problem: Failure | None = None, **wanted: bool) -> e.Offered:
    return e.Offered(
        job_id="j-1",
        attempt=1,
        manifest=manifest(**wanted),
        manifest_sha256="cd" * 32,
        offered_ns=NOW_NS,
        problem_code=None if problem is None else problem.code,
        problem=None if problem is None else problem.message,
    )


def intended(run: int = 1) -> e.LaunchIntended:
    return e.LaunchIntended(
        run, "boot-1", f"j-1.1.{run}.lock", None, "/usr/bin/echo", "ef" * 32, 60.0, 512, 100
    )


def launched(run: int = 1) -> e.Launched:
    return e.Launched(run, 4711, NOW_NS, 99_000_000_000, ("bwrap",))


ENDED = e.Ended("exited", 0, None, NOW_NS, {"cpu_s": 1.5})
SUCCESS = e.OutcomeKnown(None, "exit code 0", artifacts=(ARTIFACT,))
FAILURE = e.OutcomeKnown(ErrorCode.EXIT, "the command ended with exit code 3")
CANCEL = e.CancelRequested("operator")
ABANDON = e.AbandonRequested("given to another node")

_PREP = (offered(), e.Acked(60.0), e.PrepStarted())
_RUNNING = (*_PREP, intended(), launched())

STAGES: dict[str, tuple[Event, ...]] = {
    "IDLE": (),
    "PULLING": (offered(),),
    "PULLING, cancelled": (offered(), CANCEL),
    "PULLING, the manifest is no good": (offered(DENIED),),
    "ACKED": (offered(), e.Acked(60.0)),
    "PREP": _PREP,
    "PREP, launch intended": (*_PREP, intended()),
    "PREP, launch intended, cancelled": (*_PREP, intended(), CANCEL),
    "PREP, launch intended, abandoned": (*_PREP, intended(), ABANDON),
    "RUNNING": _RUNNING,
    "RUNNING, nothing to collect": (offered(artifacts=False), *_RUNNING[1:]),
    "RUNNING, cancelled": (*_RUNNING, CANCEL),
    "RUNNING, abandoned": (*_RUNNING, ABANDON),
    "RUNNING, over a limit": (*_RUNNING, e.LimitExceeded(ErrorCode.OUTPUT, "output/ has 101 MiB")),
    "RUNNING, ended": (*_RUNNING, ENDED),
    "UPLOADING a success": (*_RUNNING, ENDED, SUCCESS),
    "UPLOADING a failure": (*_RUNNING, ENDED, FAILURE),
    "RETRY_WAIT for a run": (*_PREP, e.RetryScheduled("PREP", ErrorCode.INPUT, "refused", 1.0, NOW_NS)),
    "RETRY_WAIT for a delivery": (
        *_RUNNING,
        ENDED,
        SUCCESS,
        e.RetryScheduled("UPLOADING", None, "no answer", 2.5, NOW_NS),
    ),
    "DONE": (*_RUNNING, ENDED, SUCCESS, e.Delivered(200)),
    "FAILED": (*_RUNNING, ENDED, FAILURE, e.Delivered(200)),
    "FAILED, superseded": (offered(), e.Superseded("somebody else's", 409)),
}


def job_at(stage: str) -> Job:
    return fold(STAGES[stage])


def gone(
    how: s.How, exit_code: int | None = None, signal: int | None = None, chance: float = 0.0
) -> s.ProcessGone:
    return s.ProcessGone(how, exit_code, signal, NOW_NS, NOW_NS, chance, {"cpu_s": 1.5})


STIMULI: dict[str, s.Stimulus] = {
    "offer": s.OfferReceived("j-1", 1, manifest(), "cd" * 32, None, NOW_NS),
    "bad offer": s.OfferReceived("j-1", 1, manifest(), "cd" * 32, DENIED, NOW_NS),
    "ack granted": s.AckGranted(60.0),
    "ack refused": s.AckRefused(409),
    "slot granted": s.SlotGranted(("GPU-1",)),
    "slot impossible": s.SlotImpossible(Failure(ErrorCode.NOGPU, "no GPU is there now")),
    "prep done": s.PrepDone("boot-1", "j-1.1.1.lock", None, "/usr/bin/echo", "ef" * 32, 60.0, 512, 100),
    "prep failed": s.PrepFailed(UNFETCHED, NOW_NS, 0.0),
    "prep failed for good": s.PrepFailed(DENIED, NOW_NS, 0.0),
    "launch succeeded": s.LaunchSucceeded(4711, NOW_NS, 99_000_000_000, ("bwrap",)),
    "launch failed": s.LaunchFailed(Failure(ErrorCode.INTERNAL, "no sandbox")),
    "process found": s.ProcessFound(815),
    "exited 0": gone(s.How.EXITED, 0),
    "exited 3": gone(s.How.EXITED, 3),
    "signalled": gone(s.How.SIGNALLED, None, 9),
    "timed out": gone(s.How.TIMED_OUT),
    "out of memory": gone(s.How.OUT_OF_MEMORY),
    "sandbox failed": gone(s.How.SANDBOX_FAILED),
    "lost": gone(s.How.LOST),
    "limit hit": s.LimitHit(Failure(ErrorCode.OUTPUT, "output/ has 101 MiB; 100 are allowed")),
    "artifacts collected": s.ArtifactsCollected((ARTIFACT,)),
    "output doubted": s.OutputDoubted("the machine was restarted", NOW_NS, 0.0),
    "artifacts refused": s.ArtifactsRefused(Failure(ErrorCode.ARTIFACT, "output.txt is missing")),
    "cancel": s.CancelAsked("operator"),
    "abandon": s.AbandonAsked("given to another node"),
    "delivered": s.DeliveryDone(200),
    "delivery refused": s.DeliveryRefused(410),
    "delivery rejected": s.DeliveryRejected(413, "too large", NOW_NS, 0.0),
    "delivery unknown": s.DeliveryUnknown("no answer", None, NOW_NS, 0.0),
    "timer fired": s.RetryTimerFired(),
    "effect failed": s.EffectFailed("a defect of the node", NOW_NS, 0.0),
}
