"""What `test_cgroup_limits.py` has its machine do: play the cases, write each result as a line, power off.

Without systemd: the cgroups that its two units would have are made here, and this program moves itself to where the
daemon would be.
"""

import ctypes
import json
import os
import time
import traceback
from pathlib import Path
from typing import Any

from tests.system.limits.cases import ALL
from tests.system.limits.place import make_place


def play(results: Path, wanted: list[str]) -> None:
    """Play the cases of these names; without any, all."""
    place = make_place()
    for case in ALL:
        if wanted and case.__name__ not in wanted:
            continue
        began = time.monotonic()
        told: dict[str, Any] = {}
        problem = ""
        try:
            told = case(place)
        except Exception:  # noqa: BLE001 - it is told outside
            problem = traceback.format_exc()
        seconds = round(time.monotonic() - began, 2)
        line = {"name": case.__name__, "problem": problem, "told": told, "seconds": seconds}
        with results.open("a") as file:
            file.write(json.dumps(line) + "\n")


def power_off() -> None:
    os.sync()
    ctypes.CDLL(None).reboot(0x4321FEDC)  # reboot(2)
