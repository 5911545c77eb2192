"""A machine of the system test: User Mode Linux with the real systemd, that works through the scenarios and goes.

Everything of it lies below one folder: a copy-on-write file over the kept disk, the console's text, and what is
exchanged with the driver inside (hostfs): package and tools in, results out.
"""

import ast
import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.system import images
from tests.system.images import INSIDE, ROOT, Release

_MEMORY = "1024M"
_MEMORY_FOLDER = "/dev/shm"
_CONSOLE_CHARS = 6000


def _scenarios() -> list[str]:
    tree = ast.parse((INSIDE / "scenarios.py").read_text())
    (played,) = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "ALL"
    ]
    assert isinstance(played, ast.Tuple)
    return [name.id for name in played.elts if isinstance(name, ast.Name)]


SCENARIOS = _scenarios()
"""All of inside/scenarios.py, in the order in which they are played."""


def plays(release: Release, scenario: str) -> bool:
    """Tell whether the release plays this scenario: each the install script's would cost minutes more."""
    return release == images.RELEASES[-1] or not scenario.startswith("script_")


class Machine:
    """One run of a release."""

    def __init__(self, release: Release, folder: Path) -> None:
        self.release = release
        self.folder = folder
        self.host = folder / "host"
        self.console = folder / "console.txt"
        self.process: subprocess.Popen[bytes] | None = None
        self.started = 0.0
        self.seconds = 0.0

    def prepare(self) -> None:
        """Lay out what the driver needs; make what is not kept yet."""
        self.disk = images.disk(self.release)
        self.host.mkdir(parents=True)
        shutil.copytree(INSIDE, self.host / "inside", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(ROOT / "tools", self.host / "tools", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(images.coordinator_libraries(self.release) / "lib", self.host / "lib")
        shutil.copy(images.package(), self.host / "first.deb")
        shutil.copy(images.newer_package(), self.host / "second.deb")
        if plays(self.release, "script_install"):
            shutil.copytree(images.wheels(self.release), self.host / "wheels")
            images.checkout(self.host / "checkout")

    def start(self, scenarios: Sequence[str]) -> None:
        """Boot. The driver plays those of the scenarios that this release plays."""
        names = [name for name in scenarios if plays(self.release, name)]
        (self.host / "scenarios.json").write_text(json.dumps(names))
        command = [
            # A process namespace of its own, gone with all its helpers when unshare is, and unshare goes with us.
            *("setpriv", "--pdeathsig", "KILL", "unshare", "--pid", "--fork", "--kill-child"),
            *("linux.uml", f"mem={_MEMORY}", f"umid={self.release.name}", f"uml_dir={self.folder}"),
            *(f"ubd0={self.folder / 'disk.cow'},{self.disk}", "root=/dev/ubda", "rw"),
            *(f"hostfs={self.host}", "con=null", "con0=null,fd:1", "con1=null", "ssl=null"),
            *("systemd.show_status=no", "loglevel=4", "panic=-1"),
        ]
        with self.console.open("wb") as console:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                cwd=self.folder,
                # Its memory is a file without a name in TMPDIR: on a disk it would be slow.
                env={"PATH": os.environ["PATH"], "TMPDIR": _MEMORY_FOLDER, "HOME": str(self.folder)},
            )
        self.started = time.monotonic()

    def wait(self, deadline_s: float) -> None:
        """Wait until it has powered itself off."""
        assert self.process is not None
        try:
            self.process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"{self.release.name} is not off after {deadline_s} s\n{self.story()}"
            ) from None
        finally:
            self.seconds = time.monotonic() - self.started

    def kill(self) -> None:
        """End whatever of it is left."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def left(self) -> list[str]:
        """Return the command line of each process that still has something to do with this machine."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if f"uml_dir={self.folder}" in command:
                    found.append(command)
        return found

    def results(self) -> dict[str, dict[str, Any]]:
        """Return what each scenario came to, by its name."""
        path = self.host / "results.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return {found["name"]: found for found in map(json.loads, lines)}

    def story(self) -> str:
        """Return the end of what it printed."""
        return self.console.read_text(errors="replace")[-_CONSOLE_CHARS:] if self.console.exists() else ""
