"""A coordinator and a daemon of the benchmark's own, as real processes in a temporary folder."""

import json
import os
import secrets
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import yaml

TOOLS = Path(__file__).resolve().parent
_DEADLINE_S = 120.0
_BARE = "import asyncio, sys; print('ready', flush=True); asyncio.run(asyncio.sleep(600))"


class BenchNode:
    """Starts both, hands out jobs, watches; ends both on leaving the block."""

    def __init__(
        self,
        folder: Path,
        *,
        slots: int = 2,
        program: str = "true",
        arguments: str = "",
        memory_mb: int = 16384,
    ) -> None:
        """Prepare. Jobs may run /bin/`program`, with arguments that match `arguments`, if that is not empty."""
        self._folder = folder
        self._slots = slots
        self._program = program
        self._arguments = arguments
        self._memory_mb = memory_mb
        folder.mkdir(parents=True)
        self._token = secrets.token_hex(16)
        self._processes: list[subprocess.Popen[bytes]] = []
        self.start_s = 0.0

    def __enter__(self) -> Self:
        coordinator = [sys.executable, TOOLS / "dev_coordinator.py", "--data", self._folder / "coordinator"]
        self._spawn([*coordinator, "--listen", "127.0.0.1:0"], "coordinator.log")
        url_file = self._folder / "coordinator" / "url"
        self._until(lambda: url_file.exists() and url_file.read_text().strip() != "")
        base_url = url_file.read_text().strip()
        self._admin = httpx.Client(
            base_url=base_url.removesuffix("/api/v1"),
            headers={"Authorization": f"Bearer {self._token}"},
            timeout=_DEADLINE_S,
        )
        config = self._folder / "config.yaml"
        config.write_text(yaml.safe_dump(self._config(base_url)))
        (self._folder / "allowlist.d").mkdir()
        rule: dict[str, Any] = {"command": {"path": f"/bin/{self._program}"}}
        if self._arguments:
            rule["args"] = [[self._arguments]]
        (self._folder / "allowlist.d" / f"{self._program}.yaml").write_text(yaml.safe_dump(rule))
        began = time.perf_counter()
        self.spawn_daemon()
        self._until(lambda: self._admin.get("/admin/nodes").json()["nodes"] != [], pause_s=0.005)
        self.start_s = time.perf_counter() - began
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in reversed(self._processes):
            process.terminate()
            process.wait(timeout=10)
        self._admin.close()

    def spawn_daemon(self) -> None:
        """Start the daemon, and don't wait."""
        config = self._folder / "config.yaml"
        self._daemon = self._spawn(
            [sys.executable, "-P", "-m", "fsm_miner", "--config", config], "daemon.log"
        )

    def kill_daemon(self) -> None:
        """SIGKILL; its jobs go on."""
        self._daemon.kill()
        self._daemon.wait()
        self._processes.remove(self._daemon)

    def registered_s(self) -> float:
        """Start the daemon; return the seconds until its own page says that it is registered."""
        began = time.perf_counter()
        self.spawn_daemon()
        self._until(self._registered, pause_s=0.005)
        return time.perf_counter() - began

    def _registered(self) -> bool:
        held = json.loads((self._folder / "state" / "daemon.lock").read_bytes() or b"{}")
        if held.get("pid") != self._daemon.pid or held.get("health_url") is None:
            return False
        try:
            return httpx.get(f"{held['health_url']}/healthz").json()["registered"]
        except httpx.TransportError:
            return False

    def submit(self, manifests: list[dict[str, Any]]) -> list[str]:
        """Hand jobs in; return their ids."""
        return self._admin.post("/admin/jobs", json=manifests).raise_for_status().json()["job_ids"]

    def cancel(self, job_ids: list[str]) -> None:
        """Cancel jobs."""
        for job_id in job_ids:
            self._admin.post(f"/admin/jobs/{job_id}/cancel").raise_for_status()

    def wait(self, job_id: str) -> None:
        """Wait for a job's outcome, whatever it is."""
        self._admin.get("/admin/wait", params={"job": job_id, "timeout": _DEADLINE_S}).raise_for_status()

    def log_of(self, job_id: str) -> Path:
        """Name the file with what a job printed."""
        return self._folder / "jobs" / job_id / "logs" / "exec.log"

    def run_one(self) -> float:
        """Run one job; return the seconds from its submission (a pull is waiting) to its outcome."""
        job_id = self._submit(1)[0]
        self.wait(job_id)
        jobs = self._admin.get("/admin/jobs", params={"limit": 1}).json()["jobs"]
        job = next(job for job in jobs if job["job_id"] == job_id)
        assert job["state"] == "done", job
        return job["finished_at"] - job["submitted_at"]

    def run_many(self, count: int) -> float:
        """Fill the queue; return how many jobs a second were delivered."""
        done = self._done()
        began = time.perf_counter()
        self._submit(count)
        self._admin.get("/admin/wait", params={"timeout": _DEADLINE_S})
        took_s = time.perf_counter() - began
        assert self._done() == done + count
        return count / took_s

    def idle(self, seconds: float) -> tuple[float, float]:
        """Watch the idle daemon; return its share of a core, and its resident memory in MB."""
        before = _cpu_s(self._daemon.pid)
        time.sleep(seconds)
        return (_cpu_s(self._daemon.pid) - before) / seconds, _rss_mb(self._daemon.pid)

    def bare_python_mb(self) -> float:
        """Return the resident memory of a Python that only waits, in MB."""
        with subprocess.Popen([sys.executable, "-c", _BARE], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            memory_mb = _rss_mb(process.pid)
            process.kill()
        return memory_mb

    def bare_start_s(self) -> float:
        """Return the time from spawning a Python to its first word on an event loop."""
        began = time.perf_counter()
        with subprocess.Popen([sys.executable, "-c", _BARE], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            took_s = time.perf_counter() - began
            process.kill()
        return took_s

    def _config(self, base_url: str) -> dict[str, Any]:
        return {
            "node_id": "bench",
            "coordinator": {"base_url": base_url, "auth_token": "env:MINER_AUTH"},
            "runners": {"cli": {"allowlist_files": ["allowlist.d"]}, "python": {"enable": False}},
            "resources": {"max_concurrent_cpu": self._slots, "mem_soft_mb": self._memory_mb},
            "workspace": {"root": "jobs"},
            "journal": {"path": "state/journal.db"},
            "logging": {"path": "miner.jsonl"},
            "health": {"listen": "127.0.0.1:0"},
        }

    def _submit(self, count: int) -> list[str]:
        return self.submit([{"runner": "cli", "command": "true", "timeout_s": 60} for _ in range(count)])

    def _done(self) -> int:
        return self._admin.get("/admin/stats").json()["counts"].get("done", 0)

    def _spawn(self, argv: list[Any], log: str) -> subprocess.Popen[bytes]:
        with (self._folder / log).open("wb") as output:
            process = subprocess.Popen(
                [str(word) for word in argv],
                cwd=self._folder,
                env={**os.environ, "MINER_AUTH": self._token},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        self._processes.append(process)
        return process

    def _until(self, true: Any, pause_s: float = 0.02) -> None:
        deadline = time.monotonic() + _DEADLINE_S
        while not true():
            if time.monotonic() > deadline:
                raise SystemExit(f"the benchmark's node does not start; see the logs in {self._folder}")
            time.sleep(pause_s)


def _cpu_s(pid: int) -> float:
    stat = Path(f"/proc/{pid}/stat").read_text()
    ticks = stat[stat.rindex(")") + 2 :].split()[11:13]
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def _rss_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
