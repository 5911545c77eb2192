"""The port for everything on this machine that a job touches: its folder, its process, its files.

`fsm_miner.site` is the real one; the simulator has another. A method does one instruction and returns what
came of it; it can be cancelled at any moment, except `launch`, and asked again. Each may raise `NotNow`.
"""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from fsm_miner.upload_files import Uploads
from states.codes import Failure
from states.job import Job
from states.stimuli import (
    ArtifactsCollected,
    ArtifactsRefused,
    LaunchFailed,
    LaunchSucceeded,
    LimitHit,
    OutputDoubted,
    PrepDone,
    PrepFailed,
    ProcessFound,
    ProcessGone,
)

__all__ = ["NotNow", "Tell", "Worksite"]


class NotNow(Exception):
    """The node lacks something for a moment (descriptors, memory, processes), which is no fault of the job's.

    Nothing was done that can't be done again. Says what is lacking.
    """


Tell = Callable[[str, str | None, float | None], Awaitable[None]]
"""Takes a progress note, the log's tail and a percentage; throttling is the taker's business."""


class Worksite(Protocol):
    """The port."""

    async def prepare(self, job: Job) -> PrepDone | PrepFailed:
        """Check the job, make its workspace, fetch its inputs."""
        ...

    async def launch(self, job: Job, *, only_look: bool) -> LaunchSucceeded | LaunchFailed:
        """Start the intended run, unless it was started before. Not to be cancelled."""
        ...

    async def watch(self, job: Job, tell: Tell) -> ProcessFound | LimitHit | ProcessGone:
        """Wait until the process ends or goes over a limit."""
        ...

    async def stop(self, job: Job) -> ProcessGone:
        """End the process; return when nothing of it lives."""
        ...

    def end_recorded(self, job: Job) -> None:
        """Let go of what was kept as evidence of how the run ended: its end is durable. Must not raise or block."""
        ...

    async def collect(self, job: Job) -> ArtifactsCollected | ArtifactsRefused | OutputDoubted:
        """Check the declared artifacts, make them durable, and hash them."""
        ...

    def parcel(self, job: Job) -> AbstractAsyncContextManager[Uploads | Failure]:
        """Open what a success delivers; a Failure if an artifact is no longer there as it was collected."""
        ...

    def snapshot(self, job: Job, extra: dict[str, Any]) -> None:
        """Write `state.json` for people and scripts, where the job has a folder."""
        ...

    def forget(self, job: Job) -> None:
        """Let go of what is held in memory for a job that is over."""
        ...
