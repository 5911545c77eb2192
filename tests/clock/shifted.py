"""Builds the preloaded clock, and sets it."""

import shutil
import struct
import subprocess
from pathlib import Path

from tests.support.needs import lacking

SOURCE = Path(__file__).parent / "shifted_clock.c"


class ShiftedClock:
    """A wall clock that is wrong by `shift` seconds for whoever runs with `env`."""

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("gcc")
        if compiler is None:
            lacking("gcc is missing: apt install gcc")
        self._file = folder / "shift"
        library = folder / "shifted_clock.so"
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, SOURCE], check=True, timeout=60)
        self.env = {"LD_PRELOAD": str(library), "SHIFTED_CLOCK": str(self._file)}
        self.shift_s = 0
        self._file.write_bytes(struct.pack("=q", 0))

    def set(self, shift_s: int) -> None:
        """Be wrong by so much from now on."""
        self.shift_s = shift_s
        with self._file.open("r+b") as file:
            file.write(struct.pack("=q", shift_s))
