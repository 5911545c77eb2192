"""What the scenarios stand on: commands, systemd's view of a unit, the dev coordinator, the daemon's health page."""

import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

HOST = Path("/host")
DAEMON, JOBS_UNIT, SLICE = "aitbc-miner.service", "aitbc-miner-jobs.service", "aitbcminer.slice"
CGROUPS = Path("/sys/fs/cgroup") / SLICE / JOBS_UNIT
ETC = Path("/etc/aitbc/miner")
JOBS = Path("/var/lib/aitbc/miner/jobs")
TOKEN = "bootstrap-token-that-nobody-may-see"
COORDINATOR = "http://127.0.0.1:8787"
# Hosts that jobs ask for: the operator allows the first one.
ALLOWED, REFUSED = "localhost:8790", "localhost:8791"
DEADLINE_S = 45.0

CONFIG = f"""\
node_id: node-under-test
coordinator:
  base_url: "{COORDINATOR}/api/v1"
  auth_token: "credential:miner-auth"
  pull_wait_s: 5
  poll_interval_s: 0.2
heartbeat:
  interval_s: 1
  backoff: {{min_s: 0.2, max_s: 1}}
runners:
  cli:
    allowlist_files: ["{ETC}/allowlist.d"]
  python:
    task_paths: ["/usr/local/lib/aitbc/miner/tasks", "/usr/lib/aitbc/miner/tasks"]
resources:
  max_concurrent_cpu: 4
  disk_reserve_mb: 32
  mem_soft_mb: 128
retries: {{max_attempts: 3, base_s: 0.2, max_s: 1}}
timeouts: {{stop_grace_s: 1}}
network: {{allow_private: ["{ALLOWED}"]}}
"""
SH_RULE = """\
command: {path: "/bin/sh"}
args: [["-c", "(?s).*"]]
env: [API_KEY, API_KEY_FILE]
max_runtime_s: 600
max_output_mb: 64
"""


def vital(step: Any) -> Any:
    """Mark a scenario without which no later one makes sense."""
    step.vital = True
    return step


class Reboot(Exception):
    """The scenario is over, and the machine is to be started anew."""


def run(*command: str, check: bool = True, timeout_s: float = 120) -> str:
    """Run a command and return what it printed."""
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=timeout_s
    )
    assert not check or done.returncode == 0, (
        f"{' '.join(command)}: exit code {done.returncode}: {done.stdout}"
    )
    return done.stdout


def until(ask: Any, what: str, deadline_s: float = DEADLINE_S, every_s: float = 0.05) -> Any:
    """Ask until the answer is true, and return it. What starts a command is not to be asked often: there is one CPU."""
    end = time.monotonic() + deadline_s
    while not (answer := ask()):
        assert time.monotonic() < end, f"not within {deadline_s} s: {what}"
        time.sleep(every_s)
    return answer


def shown(unit: str, name: str) -> str:
    """Return a property of a unit."""
    return run("systemctl", "show", "--value", "-p", name, unit).strip()


def main_pid() -> int:
    """Return the daemon's process id, 0 if there is none."""
    return int(shown(DAEMON, "MainPID"))


def fetch(url: str, body: Any = None, timeout_s: float = 90) -> Any:
    """GET, or POST a body; return the JSON of the answer."""
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data=data), timeout=timeout_s) as answer:
        return json.load(answer)


def health() -> dict[str, Any]:
    """Return the daemon's own view, {} while it does not answer."""
    try:
        return fetch("http://127.0.0.1:9470/healthz", timeout_s=5)
    except (urllib.error.URLError, OSError, ValueError):
        return {}


class World:
    """What lasts from scenario to scenario. `kept` outlives a reboot."""

    def __init__(self, kept: dict[str, Any]) -> None:
        self.kept = kept

    def start_coordinator(self, venv: Path = Path("/usr/lib/aitbc/miner/.venv")) -> None:
        """Start it, with the libraries that the package brought, or the install script."""
        run(
            *("systemd-run", "--quiet", "--unit=coordinator", "--setenv=PYTHONPATH=/host/lib"),
            *(f"--setenv=MINER_AUTH={TOKEN}", "--setenv=PYTHONDONTWRITEBYTECODE=1"),
            *(str(venv / "bin" / "python"), "/host/tools/dev_coordinator.py"),
            *("--data", "/var/lib/coordinator", "--listen", COORDINATOR.removeprefix("http://")),
            # Nothing here is about leases; a machine that boots slowly must not lose one.
            *("--lease-s", "120"),
        )
        until(lambda: self._answers(f"{COORDINATOR}/admin/stats"), "the coordinator answers")

    def _answers(self, url: str) -> bool:
        try:
            fetch(url, timeout_s=5)
        except (urllib.error.URLError, OSError, ValueError):
            return False
        return True

    def registered(self, other_than: int = 0) -> int:
        """Wait until the daemon works (a new one, not `other_than`), and return its process id."""

        def ask() -> int:
            pid = main_pid()
            return pid if pid not in (0, other_than) and health().get("registered") else 0

        return until(ask, "the daemon is registered", 2 * DEADLINE_S, 0.5)

    def submit(self, script: str, *arguments: str, **more: Any) -> str:
        """Queue a shell script as a job, and return its id."""
        manifest = {
            "runner": "cli",
            "command": "sh",
            "args": ["-c", script, *arguments],
            "timeout_s": 300,
            "artifacts": [{"path": "output.txt", "type": "text/plain", "max_mb": 1}],
            **more,
        }
        return fetch(f"{COORDINATOR}/admin/jobs", manifest)["job_id"]

    def submit_task(self, task: str, params: dict[str, Any]) -> str:
        """Queue a Python task, and return its id."""
        manifest = {
            "runner": "python",
            "task": task,
            "params": params,
            "timeout_s": 300,
            "artifacts": [{"path": "result.json", "type": "application/json", "max_mb": 1}],
        }
        return fetch(f"{COORDINATOR}/admin/jobs", manifest)["job_id"]

    def status(self, line: str) -> str:
        """Wait until the unit's status line is this one."""
        until(lambda: shown(DAEMON, "StatusText") == line, f"status line: {line}", every_s=0.5)
        return line

    def no_cgroup_of(self, job_id: str) -> None:
        """Wait until the job has no cgroup any more."""
        until(lambda: not any(job_id in path.name for path in CGROUPS.iterdir()), "its cgroup is gone")

    def end_all(self) -> None:
        """Cancel what a failed scenario left, so that the next one begins with nothing."""
        try:
            for job in fetch(f"{COORDINATOR}/admin/jobs")["jobs"]:
                if job["finished_at"] is None:
                    fetch(f"{COORDINATOR}/admin/jobs/{job['job_id']}/cancel", {})
        except (urllib.error.URLError, OSError, ValueError):
            return  # there is no coordinator

    def wait(self, job_id: str, timeout_s: float = DEADLINE_S) -> dict[str, Any]:
        """Wait until the coordinator has the outcome, and return all it knows."""
        view = fetch(f"{COORDINATOR}/admin/wait?job={job_id}&timeout={timeout_s}")
        assert view["over"], f"{job_id}: not over: {view['state']}"
        return view

    def running(self, job_id: str) -> Path:
        """Wait until the job's command works, and return its folder."""
        folder = JOBS / job_id
        until((folder / "work" / "started").exists, f"{job_id} has started")
        return folder

    def story(self) -> str:
        """Return what helps to understand a failure."""
        parts = [
            run("systemctl", "status", "--no-pager", "-n", "30", DAEMON, JOBS_UNIT, check=False),
            run("journalctl", "--no-pager", "-n", "60", "-o", "short-monotonic", check=False),
            run("sh", "-c", "tail -n 40 /var/log/aitbc/miner/miner.jsonl", check=False),
        ]
        return "\n".join(part[-6000:] for part in parts)


def cgroup_of(job_id: str) -> Path:
    """Return the cgroup of the job's run."""
    found = [path for path in CGROUPS.iterdir() if path.is_dir() and job_id in path.name]
    assert len(found) == 1, f"{job_id}: {len(found)} cgroups in {sorted(p.name for p in CGROUPS.iterdir())}"
    return found[0]


def processes_of(cgroup: Path) -> list[int]:
    """Return the processes in a cgroup."""
    return [int(line) for line in (cgroup / "cgroup.procs").read_text().split()]


def listing(*roots: str) -> set[str]:
    """Return every path below, on the disk itself."""
    found: set[str] = set()
    for root in roots:
        for folder, folders, files in os.walk(root):
            found.update(str(Path(folder, name)) for name in folders + files)
    return found
