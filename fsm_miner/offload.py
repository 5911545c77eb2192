"""Run a blocking function in a thread, and never come back before it has ended.

`asyncio.to_thread` abandons its thread when the waiting task is cancelled: the caller then closes a
file descriptor, or removes a folder, that the thread still uses. Here a cancelled caller waits.
"""

import asyncio
from collections.abc import Callable
from threading import Event
from typing import TypeVar

__all__ = ["offload"]

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
