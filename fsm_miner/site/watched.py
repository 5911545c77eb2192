"""A run that is watched: what looking at it needs, and what is told of it while it goes on."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

from fsm_miner.log_tail import parse_progress
from fsm_miner.worksite import Tell
from runners.log import MemoryFile, RunLog
from runners.run import Limits, RunFiles

__all__ = ["Watched", "keep_telling"]

_TELL_FIRST_S = 0.5
_TELL_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class Watched:
    """What looking at a run needs: its name, its files, its limits; `log_tail` reads what may be shown of its log."""

    name: str
    files: RunFiles
    limits: Limits
    log_tail: Callable[[RunLog], str]

    def logging_to(self, memory: MemoryFile | None) -> "Watched":
        """Return it with the log where it is: one in memory is known to the daemon that started the run only."""
        return replace(self, files=replace(self.files, log=RunLog(self.files.log.path, memory)))


async def keep_telling(run: Watched, tell: Tell) -> None:
    """Report progress for as long as the run goes on; ends when it is cancelled."""
    delay_s = _TELL_FIRST_S
    while True:
        await asyncio.sleep(delay_s)
        delay_s = _TELL_EVERY_S
        tail = await asyncio.to_thread(run.log_tail, run.files.log)
        await tell("running", tail, parse_progress(tail))
