"""The daemon's event loop: one that no job can take away.

The kernel counts epoll's registrations by user, in all of that user's sandboxes together (epoll(7),
/proc/sys/fs/epoll/max_user_watches), and a few processes can use them up. A loop on epoll then accepts no connection
any more; libuv's ends the process, and can't start again before the job has ended. poll(2) needs no registration,
and for the some dozen descriptors of a daemon it is as fast.
"""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["run"]

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` in a new loop, and return what it returns."""
    with asyncio.Runner(loop_factory=_loop) as runner:
        return runner.run(main)


def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.SelectorEventLoop(selectors.PollSelector())
