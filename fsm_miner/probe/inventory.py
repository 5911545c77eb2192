"""All GPUs of the node, in bounded time: a driver that hangs never hangs the daemon.

A call into a driver cannot be interrupted, only waited for. So each reading runs in a thread of its own,
at most one at a time, a daemon thread, because an exiting process must not wait for it either. Whoever asks
waits `deadline_s` at most; after that they get the last answer, marked stale, and a problem that says so.
"""

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fsm_miner.probe.amd import AmdSource
from fsm_miner.probe.gpu import NOTHING, GpuReading, GpuSource
from fsm_miner.probe.intel import IntelSource
from fsm_miner.probe.nvidia import NvidiaSource
from fsm_miner.probe.nvidia_nodes import NvidiaNodes
from fsm_miner.probe.nvml_api import load

__all__ = ["DEADLINE_S", "ThreadedInventory", "gpu_sources", "read_sources"]

# Opening a session takes seconds on a machine with many cards and no persistence daemon.
DEADLINE_S = 10.0


def gpu_sources(
    sysfs: Path = Path("/sys"), dev: Path = Path("/dev"), proc: Path = Path("/proc")
) -> tuple[GpuSource, ...]:
    """Return the sources of all three vendors."""
    return (NvidiaSource(load(), NvidiaNodes(dev, proc)), AmdSource(sysfs, dev), IntelSource(sysfs, dev))


def read_sources(sources: Sequence[GpuSource]) -> GpuReading:
    """Read all sources, one after the other; blocks for as long as the drivers do."""
    readings = [source.read() for source in sources]
    return GpuReading(
        gpus=tuple(gpu for reading in readings for gpu in reading.gpus),
        problems=tuple(problem for reading in readings for problem in reading.problems),
    )


class ThreadedInventory:
    """The `GpuInventory` of the daemon. Belongs to one event loop; needs no closing."""

    def __init__(self, sources: Sequence[GpuSource], deadline_s: float = DEADLINE_S) -> None:
        assert deadline_s > 0
        self._sources = tuple(sources)
        self._deadline_s = deadline_s
        self._last = NOTHING
        self._running: asyncio.Future[GpuReading] | None = None

    async def read(self) -> GpuReading:
        """Return all GPUs with their free memory, after `deadline_s` at the latest.

        Callers at the same time share one reading. A defect in a source (no driver's fault) is raised.
        """
        if self._running is None:
            self._running = self._start()
        running = self._running
        await asyncio.wait([running], timeout=self._deadline_s)
        if running.done():
            return running.result()
        problem = (
            f"a GPU driver has not answered within {self._deadline_s:g} s: see dmesg; the last answer stands"
        )
        return replace(self._last, problems=(*self._last.problems, problem), stale=True)

    def _start(self) -> "asyncio.Future[GpuReading]":
        loop = asyncio.get_running_loop()
        future: asyncio.Future[GpuReading] = loop.create_future()
        future.add_done_callback(self._finished)

        def work() -> None:
            outcome: GpuReading | Exception
            try:
                outcome = read_sources(self._sources)
            except Exception as error:  # noqa: BLE001 - handed to whoever waits, who raises it
                outcome = error
            try:
                loop.call_soon_threadsafe(_settle, future, outcome)
            except RuntimeError:
                return  # the loop closed while the driver was busy: nobody waits any more

        threading.Thread(target=work, name="gpu-reading", daemon=True).start()
        return future

    def _finished(self, future: "asyncio.Future[GpuReading]") -> None:
        self._running = None
        if not future.cancelled() and future.exception() is None:
            self._last = future.result()


def _settle(future: "asyncio.Future[GpuReading]", outcome: GpuReading | Exception) -> None:
    if future.done():
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
