"""The daemon's event loop: one that no job can take away.

The kernel counts epoll's registrations by user, in all of that user's sandboxes together (epoll(7),
/proc/sys/fs/epoll/max_user_watches), and a few processes can use them up. A loop on epoll then accepts no connection
any more; libuv's ends the process, and can't start again before the job has ended. poll(2) needs no registration,
and for the some dozen descriptors of a daemon it is as fast.
"""

import asyncio
import errno
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["run"]

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` in a new loop, and return what it returns."""
    with asyncio.Runner(loop_factory=_loop) as runner:
        return runner.run(main)


class _Selector(selectors.PollSelector):
    """poll(2); where RLIMIT_NOFILE was lowered below what is open already, which it refuses, select(2)."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        try:
            return super().select(timeout)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
        with selectors.SelectSelector() as other:
            for key in self.get_map().values():
                other.register(key.fileobj, key.events, key.data)
            return other.select(timeout)


def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.SelectorEventLoop(_Selector())
