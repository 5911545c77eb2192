"""What is found of a run that has ended: how it came to that, in a word of `How` and in a sentence."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from fsm_miner.log_tail import last_line
from runners.cgroup_counts import Oom, oom
from runners.lock import LockState, look
from runners.log import RunLog
from runners.run import Limits, RunFiles
from runners.status import read_status, written_ns
from runners.verdict import (
    Exited,
    Lost,
    OutOfMemory,
    SandboxFailed,
    Signalled,
    TimedOut,
    Verdict,
    chain_failure,
    verdict,
)
from runners.wait import Ended
from runners.watch import Breach, log_breach, processes_breach
from states.stimuli import How

__all__ = ["End", "ended_ns", "late_breach", "read_end"]

_LINE_CHARS_MAX = 300


@dataclass(frozen=True, slots=True)
class End:
    """As `ProcessGone` tells it."""

    how: How
    exit_code: int | None = None
    signal: int | None = None
    detail: str = ""


def late_breach(files: RunFiles, limits: Limits, ended: Ended) -> Breach | None:
    """Say which limit a run that has ended broke since the last look, or because of which it failed."""
    breach = log_breach(files, limits)
    return breach if breach is not None or ended.exit_code == 0 else processes_breach(files, limits)


def read_end(
    files: RunFiles,
    ended: Ended,
    log_tail: Callable[[RunLog], str],
    *,
    same_boot: bool,
    elapsed_s: float,
    time_limit_s: float,
) -> End:
    """Read it from the run's files and its cgroup; changes nothing, so that whoever comes later reads the same.

    The times are those of `runners.verdict.verdict`.
    """
    killed = Oom.NONE if files.cgroup is None else oom(files.cgroup)
    failure = None
    if ended.exit_code is None:
        failure = chain_failure(files, read_status(files.status).launched)
    end = _reading(
        verdict(
            ended.exit_code,
            oom_killed=killed is Oom.OWN,
            same_boot=same_boot,
            elapsed_s=elapsed_s,
            time_limit_s=time_limit_s,
            failure=failure,
        )
    )
    if end.how in {How.LOST, How.SIGNALLED} and killed is Oom.OUTSIDE:
        return replace(
            end, detail=f"the kernel killed it for want of memory, and the limit was {killed.value}"
        )
    if end.how in {How.EXITED, How.SIGNALLED} and end.exit_code != 0:
        return replace(end, detail=_last_line(files.log, log_tail))
    if end.how is How.LOST and look(files.lock) is LockState.ABSENT:
        return replace(
            end, detail=f"its folder {files.work.parent} was removed while it ran, so the node ended it"
        )
    return end


def ended_ns(
    files: RunFiles, ended: Ended, how: How, *, started_ns: int, now_ns: int, backstop_s: float
) -> int:
    """Return when a run of this boot ended (UTC, ns), whoever looks, and however much later.

    With an exit code that is when the sandbox wrote it down; killed by the sandbox's own timer, `backstop_s` after
    its start; else nobody knows better than that it is over now. Never before the start; and never after now, unless
    the clock stands before the start.
    """
    found = None
    if ended.exit_code is not None:
        found = written_ns(files.status)
    elif how is How.TIMED_OUT:
        found = started_ns + round(backstop_s * 1e9)
    return max(started_ns, min(now_ns if found is None else found, now_ns))


def _reading(found: Verdict) -> End:
    match found:
        case Exited(code):
            return End(How.EXITED, exit_code=code)
        case Signalled(number):
            return End(How.SIGNALLED, signal=number)
        case TimedOut():
            return End(How.TIMED_OUT, detail="no daemon was there; the sandbox's own timer ended it")
        case OutOfMemory():
            return End(How.OUT_OF_MEMORY, detail="killed by the kernel")
        case SandboxFailed(message):
            return End(How.SANDBOX_FAILED, detail=message)
        case Lost():
            return End(How.LOST)


def _last_line(log: RunLog, log_tail: Callable[[RunLog], str]) -> str:
    try:
        line = last_line(log_tail(log), _LINE_CHARS_MAX)
    except OSError as error:
        # The run has ended, whether or not its log can be read.
        return f"its log can't be read: {error.strerror or type(error).__name__}"
    return f"its last line: {line}" if line else ""
