"""Telling systemd how the daemon does: ready, a status line, and that it is alive (sd_notify(3)).

A keep-alive goes out only while every loop of the daemon runs, and from the event loop itself: a daemon that hangs, or
has lost a loop, falls silent, and `WatchdogSec=` of the unit has it killed and started anew. Jobs go on meanwhile.
"""

import contextlib
import os
import socket
from collections.abc import Callable, Mapping, MutableMapping

from fsm_miner.clock import Clock

__all__ = ["LINE_CHARS_MAX", "Notices", "ServiceManager", "take_service_manager"]

LINE_CHARS_MAX = 200
_EVERY_S = 1.0
# As TimeoutStartSec= of the unit: a long journal may have to be salvaged and replayed.
_ANEW_S = 600.0
_KIND = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class ServiceManager:
    """Who started this process and wants to hear of it; without an address nobody does, and nothing is sent."""

    def __init__(self, address: str | None = None, watchdog_s: float | None = None) -> None:
        """`address` is a socket's path, or `@` and an abstract name; `watchdog_s` how long silence is borne."""
        self.watchdog_s = watchdog_s
        self._to = None if address is None else _address(address)
        # Kept: where the process has run out of descriptors it is alive, and must say so.
        self._out = None if address is None else socket.socket(socket.AF_UNIX, _KIND)

    def __del__(self) -> None:
        """Close the socket."""
        if (out := getattr(self, "_out", None)) is not None:
            out.close()

    @property
    def listens(self) -> bool:
        """Whether anybody wants to hear."""
        return self._to is not None

    def tell(self, fields: Mapping[str, str]) -> None:
        """Send one datagram; one that can't be delivered now is dropped, as the next one says the same again.

        A value is cut and cleaned of control characters: a line of its own would be a field of its own.
        """
        if self._out is None or self._to is None:
            return
        text = "".join(f"{name}={_line(value)}\n" for name, value in fields.items())
        with contextlib.suppress(OSError):
            self._out.sendto(text.encode("utf-8", "replace"), self._to)


def take_service_manager(environ: MutableMapping[str, str], pid: int) -> ServiceManager:
    """Return who listens according to `environ`, and remove it there: it is not meant for children.

    The watchdog counts only where it is meant for the process `pid` (sd_watchdog_enabled(3)).
    """
    found = {name: environ.pop(name, "") for name in _VARIABLES}
    address = found["NOTIFY_SOCKET"]
    if not address.startswith(("/", "@")):
        return ServiceManager()
    usec, for_pid = found["WATCHDOG_USEC"], found["WATCHDOG_PID"]
    for_us = not for_pid or for_pid == str(pid)
    watched = for_us and usec.isascii() and usec.isdecimal() and int(usec) > 0
    return ServiceManager(address, int(usec) / 1e6 if watched else None)


class Notices:
    """What is told while the daemon works."""

    def __init__(
        self,
        manager: ServiceManager,
        line: Callable[[], str],
        healthy: Callable[[], bool],
        *,
        clock: Clock,
    ) -> None:
        """Tell nothing yet. `line` says in a few words what the daemon does; `healthy` whether all loops run."""
        self._manager = manager
        self._line = line
        self._healthy = healthy
        self._clock = clock

    async def run(self) -> None:
        """Say that the daemon is ready, then how it does, until cancelled."""
        if not self._manager.listens:
            return
        watchdog_s = self._manager.watchdog_s
        every_s = _EVERY_S if watchdog_s is None else min(_EVERY_S, watchdog_s / 4)
        said = self._line()
        self._manager.tell({"READY": "1", "STATUS": said, **self._patience(watchdog_s)})
        while True:
            fields = {"WATCHDOG": "1"} if watchdog_s is not None and self._healthy() else {}
            if (now := self._line()) != said:
                said = fields["STATUS"] = now
            if fields:
                self._manager.tell(fields)
            await self._clock.sleep(every_s)

    def anew(self) -> None:
        """Say that the daemon begins anew in this process: until it is ready, nobody sends keep-alives."""
        patience = {} if self._manager.watchdog_s is None else self._patience(_ANEW_S)
        self._manager.tell({"STATUS": "salvaging the journal; jobs go on", **patience})

    @staticmethod
    def _patience(watchdog_s: float | None) -> dict[str, str]:
        return {} if watchdog_s is None else {"WATCHDOG_USEC": str(round(watchdog_s * 1e6)), "WATCHDOG": "1"}

    def stopping(self) -> None:
        """Say that the daemon was asked to stop, or stops by itself."""
        self._manager.tell({"STOPPING": "1", "STATUS": "stopping; jobs go on"})


def _address(name: str) -> bytes:
    raw = os.fsencode(name)
    return b"\0" + raw[1:] if raw.startswith(b"@") else raw


def _line(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text)[:LINE_CHARS_MAX]
