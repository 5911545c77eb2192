"""A machine whose power can be cut: the real daemon on a disk of its own, and a coordinator outside.

A real power cut changes the kernel's boot id. This one does not, so the daemon runs in a mount namespace of its
own, in which another file stands in the place of /proc/sys/kernel/random/boot_id. Nothing else is pretended.
(A user namespace may only mount a /proc of its own where a whole one is to be seen: mount_namespaces(7). So a
second one stands beside it.)
"""

import contextlib
import json
import os
import subprocess
import sys
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

from journal import open_reader
from tests.integration.daemon.rig import Coordinator, Node, end_all, until
from tests.power.disk import CutDisk

IN_ITS_BOOT = """
mount -t proc proc "$1" && mount --bind "$0" /proc/sys/kernel/random/boot_id && shift && exec "$@"
"""


class PoweredNode(Node):
    """A node that is started in the boot that `boot_file` names."""

    def __init__(self, folder: Path, base_url: str, boot_file: Path, **changes) -> None:
        self.boot_file = boot_file
        self.second_proc = boot_file.with_name("second-proc")
        self.second_proc.mkdir(exist_ok=True)
        super().__init__(folder, base_url, **changes)

    def start(self, *, wait: bool = True) -> None:
        daemon = [sys.executable, "-P", "-m", "fsm_miner", "--config", str(self.config_file)]
        unshared = ["unshare", "--mount", "--propagation", "private", "sh", "-c", IN_ITS_BOOT]
        self.spawn(
            [*unshared, str(self.boot_file), str(self.second_proc), *daemon], self.folder.parent, self.env
        )
        if wait:
            until(self.registered, "the node is registered")

    def status_url(self) -> str | None:
        # Nobody makes the lock file's words durable: anything may be there until the daemon writes its own.
        try:
            return super().status_url()
        except ValueError:
            return None

    def log(self, event: str | None = None) -> list[dict[str, Any]]:
        """Return the log's records; a cut may have left half a line, or none of the bytes of some."""
        found = []
        for line in self.log_file.read_bytes().splitlines() if self.log_file.exists() else ():
            with contextlib.suppress(ValueError):
                record = json.loads(line)
                found.append(record)
        return [one for one in found if event in (None, one["event"])]


class Machine:
    """Coordinator, disk and node. Everything of the node is on the disk, but for what the daemon prints."""

    def __init__(self, folder: Path, disk: CutDisk, *options: str, **config) -> None:
        self.disk = disk
        self.coordinator = Coordinator(
            folder / "coordinator", "--max-attempts", "1", "--offer-s", "1", *options
        )
        self.coordinator.start()
        self.boot_file = folder / "boot_id"
        self._new_boot()
        retries = {"max_attempts": 50, "base_s": 0.02, "max_s": 0.1}
        self.node = PoweredNode(
            disk.path / "node", self.coordinator.base_url, self.boot_file, **{"retries": retries, **config}
        )
        self.node.output = folder / "node-output.txt"
        # Installed long ago: the configuration itself is as safe as the machine's programs.
        os.sync()

    def cut(self) -> None:
        """Cut the power: the disk stands still, and nothing lives that lived on the machine."""
        if self.node.process is not None:
            self.node.process.kill()
        self.disk.cut()
        if self.node.process is not None:
            self.node.exit_code()
        self.disk.kill_all()

    def power_on(self, *, start: bool = True, wait: bool = True) -> None:
        """Mount what is left, in a new boot, and start the daemon."""
        self.disk.power_on()
        self._new_boot()
        if start:
            self.node.start(wait=wait)

    def cut_and_on(self, *, wait: bool = True) -> None:
        self.cut()
        self.power_on(wait=wait)

    def check(self, jobs: list[str]) -> None:
        """Check what must hold in the end: one good outcome a job, sound chains, no defect logged."""
        until(lambda: self.node.health()["jobs"] == [], "nothing is unfinished")
        outcomes = self.coordinator.outcomes()
        assert Counter(one["job_id"] for one in outcomes) == Counter(jobs)
        assert {one["kind"] for one in outcomes} == {"result"}, outcomes
        verified = self.fsm_miner("verify")
        assert verified.returncode == 0, verified.stdout + verified.stderr
        self.node.check()
        with open_reader(self.node.journal_file) as reader:
            for key in reader.streams():
                states = [record.dest for record in reader.read(key)]
                assert states.count("DONE") + states.count("FAILED") == 1, key

    def fsm_miner(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-P", "-m", "fsm_miner.cli", *arguments]
        return subprocess.run(
            [*command, "--config", str(self.node.config_file)],
            cwd=self.node.folder.parent, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

    def close(self) -> None:
        try:
            self.node.stop()
            self.coordinator.stop()
        finally:
            self.coordinator.http.close()
            end_all(self.disk.path.parent)
            for program in (self.node, self.coordinator):
                if program.process is not None:
                    program.exit_code()

    def _new_boot(self) -> None:
        self.boot_file.write_text(f"{uuid.uuid4()}\n")
