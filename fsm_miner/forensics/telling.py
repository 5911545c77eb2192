"""What mattered in an event, in a few words. Pure; the words are made harmless where they are written."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from fsm_miner.words import NS, size, span, utc
from states import events as e

__all__ = ["LATE_NS", "artifacts_text", "given_up", "ranges", "tell"]

LATE_NS = 2 * NS
"""What takes longer than this is worth a word."""

_ARTIFACTS_SHOWN_MAX = 5
_ONCE_SAID = "the coordinator has moved on"
_WORDS_MAX = 6


def tell(event: e.Event) -> str:  # noqa: C901, PLR0912 - one case for each event is its readable form
    """Return what mattered in the event.

    Raises:
        ArithmeticError, AttributeError, KeyError, TypeError, ValueError: its data was changed and is nonsense.

    """
    match event:
        case e.Offered():
            return _offered(event)
        case e.Acked(lease_s=lease_s):
            return "ours" if lease_s is None else f"ours, with a lease of {span(lease_s)}"
        case e.PrepStarted(gpus=gpus):
            return f"run 1 gets a slot{_cards(gpus)}"
        case e.LaunchIntended():
            return (
                f"run {event.run}: {event.program}, at most {span(event.time_limit_s)}, "
                f"{event.memory_limit_mb} MiB of memory, {event.output_limit_mb} MiB of output"
            )
        case e.Launched(run=run, pid=pid, isolation=isolation):
            process = "" if pid is None else f" as process {pid}"
            return f"run {run} started{process}" + (f" ({', '.join(isolation)})" if isolation else "")
        case e.Reattached(run=run, daemon_pid=pid):
            return f"run {run} was found alive by a new daemon (process {pid})"
        case e.CancelRequested(by=by):
            return f"the {by} wants it stopped"
        case e.AbandonRequested(reason=reason):
            return f"another node has it now: {reason}"
        case e.LimitExceeded(code=code, message=message):
            return f"{code}: {message}"
        case e.Ended():
            return _ended(event)
        case e.OutcomeKnown(code=None, artifacts=artifacts):
            return f"success; {artifacts_text(artifacts)}"
        case e.OutcomeKnown(code=code, message=message, permanent=permanent):
            return f"{code}: {message}" + (" (trying again can't help)" if permanent else "")
        case e.OutcomeRevised(code=code, message=message):
            return f"no success after all: {code}: {message}"
        case e.RetryScheduled():
            what = "run again" if event.back_to == "PREP" else "deliver again"
            because = event.reason if event.code is None else f"{event.code}: {event.reason}"
            return f"{what} in {span(event.delay_s)}, at {utc(event.due_ns)}: {because}"
        case e.RetryDue(gpus=gpus):
            return f"the wait is over{_cards(gpus)}"
        case e.Delivered(status=status):
            return f"the coordinator has the outcome (HTTP {status})"
        case e.Superseded(reason=reason, status=status):
            return f"given up: {given_up(reason)}" + ("" if status is None else f" (HTTP {status})")


def given_up(reason: object) -> str:
    """Return why nobody wants a job of this node any more; older versions said of a refused delivery only that."""
    words = str(reason)
    return "the coordinator handed it out again, or forgot it" if words == _ONCE_SAID else words


def artifacts_text(artifacts: tuple[Mapping[str, Any], ...]) -> str:
    """Return artifacts in short: how many, their paths and sizes."""
    if not artifacts:
        return "no artifacts"
    shown = [f"{one['path']} ({size(one['size'])})" for one in artifacts[:_ARTIFACTS_SHOWN_MAX]]
    more = [f"{len(artifacts) - len(shown)} more"] if len(artifacts) > len(shown) else []
    return f"{len(artifacts)} artifact{'s' * (len(artifacts) != 1)}: {', '.join([*shown, *more])}"


def _offered(event: e.Offered) -> str:
    manifest = event.manifest
    if event.problem_code is not None:
        return f"a manifest that can't be run: {event.problem_code}: {event.problem}"
    if manifest.get("runner") == "python":
        what = f"python task {manifest.get('task')}"
    else:
        words = [str(manifest.get("command")), *map(str, manifest.get("args") or ())]
        what = shlex.join(words[:_WORDS_MAX]) + (" …" if len(words) > _WORDS_MAX else "")
    wants: Mapping[str, Any] | None = manifest.get("requirements")
    return what + (" (wants a GPU)" if wants and wants.get("gpu") is True else "")


def _ended(event: e.Ended) -> str:
    if event.exit_code is not None:
        how = f"exit code {event.exit_code}"
    elif event.signal is not None:
        how = f"signal {event.signal}"
    else:
        how = str(event.how).replace("_", " ")
    cpu_s, memory_mb = event.usage.get("cpu_s"), event.usage.get("max_rss_mb")
    used = [] if not cpu_s else [f"{span(cpu_s)} of CPU time"]
    used += [] if not memory_mb else [f"{memory_mb} MiB of memory"]
    return f"{how} at {utc(event.finished_ns)}" + (f"; used {', '.join(used)}" if used else "")


def _cards(gpus: tuple[str, ...]) -> str:
    return f" on {', '.join(gpus)}" if gpus else ""


def ranges(numbers: Sequence[int]) -> str:
    """Return ascending numbers in short: `1, 4-7`."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1][1:] = [number]
        else:
            parts.append([number])
    return ", ".join("-".join(map(str, part)) for part in parts)
