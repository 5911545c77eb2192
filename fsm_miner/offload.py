"""Run a blocking function in a thread that is there already, and never come back before it has ended.

`asyncio.to_thread` abandons its thread when the waiting task is cancelled: the caller then closes a
file descriptor, or removes a folder, that the thread still uses. Here a cancelled caller waits.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event
from typing import TypeVar

__all__ = ["offload", "ready_threads"]

T = TypeVar("T")


async def offload(function: Callable[[], T], *, stop: Event | None = None) -> T:
    """Return what `function()` returns, computed in a thread.

    On cancellation `stop` is set, for a function that looks at it now and then; the cancellation goes on
    once the function has ended, and what the function then returned or raised is of no interest to anybody.
    """
    running = asyncio.ensure_future(asyncio.to_thread(function))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        if stop is not None:
            stop.set()
        while not running.done():
            try:
                await asyncio.wait([running])
            except asyncio.CancelledError:
                continue  # asked again; the first request is honoured below
        if not running.cancelled():
            running.exception()  # marks it as seen
        raise


def ready_threads(count: int) -> ThreadPoolExecutor:
    """Return an executor that never starts a thread again: all `count` of them are running.

    The process table may be full by the time that a watchdog needs one, and its job is to empty it.
    """
    executor = ThreadPoolExecutor(count, thread_name_prefix="offload")
    together = Barrier(count + 1)
    for _ in range(count):
        executor.submit(together.wait)  # none is free for the next before all are there
    together.wait()
    return executor
