"""The clocks that a run is measured by, as functions that can be passed in."""

import time
from pathlib import Path

__all__ = ["boot_id", "boottime_ns", "utc_ns"]


def boottime_ns() -> int:
    """Nanoseconds since boot, suspended time included; nobody can set it (clock_gettime(2))."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def utc_ns() -> int:
    """Nanoseconds since the epoch."""
    return time.time_ns()


def boot_id() -> str:
    """Name this boot of the machine (random(4)): processes of another boot are gone."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
