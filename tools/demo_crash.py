"""Kill the daemon while a job runs, and prove afterwards that the same process went on and was delivered once."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import psutil
from demo_node import LocalNode, Trouble

from journal import Record

__all__ = ["Blow", "journal_problems", "strike"]

_PROGRAM = "ffmpeg"


@dataclass(frozen=True, slots=True)
class Blow:
    """What was there when the daemon was killed: the daemon's process id, and the job's process."""

    daemon_pid: int
    program: psutil.Process

    def goes_on(self) -> bool:
        """Whether exactly that process lives (its start counts as well as its number)."""
        return self.program.is_running() and self.program.status() != psutil.STATUS_ZOMBIE


def strike(node: LocalNode, job_id: str) -> Blow:
    """Kill the daemon as `kill -9` does, in the middle of a job.

    Raises:
        Trouble: the job has no process at this moment.

    """
    launched = [r for r in node.records(job_id) if r.event == "Launched"]
    try:
        chain = psutil.Process(launched[-1].data["pid"])
        program = next(child for child in chain.children(recursive=True) if child.name() == _PROGRAM)
    except (IndexError, StopIteration, psutil.NoSuchProcess) as error:
        raise Trouble(f"{job_id}: {_PROGRAM} is not running, so nothing can be shown by killing") from error
    return Blow(node.kill_miner(), program)


def journal_problems(records: list[Record], new_daemon: int, view: dict[str, Any]) -> list[str]:
    """Compare the job's journal and the coordinator's view with "launched once, reattached, delivered once"."""
    seen = Counter(record.event for record in records)
    problems = [
        f"the journal has {event} {seen[event]} times, not once"
        for event in ("LaunchIntended", "Launched", "Reattached", "Ended", "Delivered")
        if seen[event] != 1
    ]
    by_event = {record.event: record for record in records}
    if not problems:
        order = [by_event[event].seq for event in ("Launched", "Reattached", "Ended", "Delivered")]
        if order != sorted(order):
            problems.append(f"the journal's order is wrong: {order}")
        if by_event["Reattached"].data["daemon_pid"] != new_daemon:
            problems.append("it was not the new daemon that reattached the process")
    if len(view["attempts"]) != 1 or view["result_calls"] != 1:
        problems.append(
            f"the coordinator has {len(view['attempts'])} attempts and {view['result_calls']} deliveries, not one each"
        )
    return problems
