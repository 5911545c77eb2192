"""A coordinator and a node of one's own in one folder, as real processes. The demo and `make run` use it.

<folder>/coordinator/   the dev coordinator's data: results/, files/
<folder>/miner/         the node: config.yaml, journal.db, jobs/
<folder>/logs/          miner.jsonl, and what both processes print: coordinator.err, miner.err
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from fsm_miner.instance import find_running
from journal import JournalError, Record, open_reader

__all__ = ["LocalNode", "Places", "Trouble", "write_config"]

TOOLS = Path(__file__).resolve().parent
START_S = 30.0
LEASE_S = 86400
STOP_S = 15.0
_POLL_S = 0.05
_TAIL_LINES = 12
# How far the launch as journaled, and the process's own start, may lie apart (clock ticks, and rounding).
_SAME_START_S = 2.0


class Trouble(Exception):
    """Something of the set-up does not work. Says what, and where to look."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where everything lies."""

    root: Path

    @property
    def coordinator(self) -> Path:
        """The dev coordinator's folder."""
        return self.root / "coordinator"

    @property
    def miner(self) -> Path:
        """The node's state folder."""
        return self.root / "miner"

    @property
    def config(self) -> Path:
        """The node's configuration."""
        return self.miner / "config.yaml"

    @property
    def journal(self) -> Path:
        """The node's journal."""
        return self.miner / "journal.db"

    @property
    def logs(self) -> Path:
        """Where both log."""
        return self.root / "logs"

    def result(self, job_id: str, name: str, attempt: int = 1) -> Path:
        """Where the coordinator has put a delivered artifact."""
        return self.coordinator / "results" / job_id / str(attempt) / "artifacts" / name


def write_config(places: Places, base_url: str, *, node_id: str, allowlist: Path, tasks: Path) -> None:
    """Write a configuration for development: everything in the folder, short intervals. YAML that is JSON."""
    config: dict[str, Any] = {
        "node_id": node_id,
        "coordinator": {
            "base_url": base_url,
            "auth_token": "env:MINER_AUTH",
            "pull_wait_s": 5,
            "poll_interval_s": 0.5,
        },
        "heartbeat": {"interval_s": 1, "backoff": {"min_s": 0.2, "max_s": 2}},
        "runners": {
            "cli": {"allowlist_files": [str(allowlist)]},
            "python": {"task_paths": [str(tasks)]},
        },
        "resources": {"mem_soft_mb": 2048, "disk_reserve_mb": 128},
        "workspace": {"root": str(places.miner / "jobs")},
        "logging": {"path": str(places.logs / "miner.jsonl")},
        "journal": {"path": str(places.journal)},
        "health": {"listen": "127.0.0.1:0"},
        "timeouts": {"stop_grace_s": 1},
    }
    places.miner.mkdir(parents=True, exist_ok=True)
    places.config.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


@dataclass(slots=True)
class LocalNode:
    """Both processes. `stop` ends whatever is there, so call it in any case. The token is in memory only."""

    places: Places
    token: str
    coordinator: "subprocess.Popen[bytes] | None" = None
    miner: "subprocess.Popen[bytes] | None" = None
    client: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=10, trust_env=False))

    # Starting.

    def start_coordinator(self, listen: str = "127.0.0.1:0") -> str:
        """Start the coordinator and return its base URL.

        Raises:
            Trouble: it does not come up.

        """
        places = self.places
        where = places.coordinator / "url"
        where.unlink(missing_ok=True)
        self.coordinator = self._spawn(
            "coordinator",
            [
                *(str(TOOLS / "dev_coordinator.py"), "--data", str(places.coordinator)),
                # Nobody else could take a job over, and both may be away for as long as a pause takes.
                *("--listen", listen, "--lease-s", str(LEASE_S)),
            ],
        )
        self._until(
            lambda: where.exists() and where.read_text().strip() != "", "coordinator", self.coordinator
        )
        return self.base_url

    def start_miner(self) -> None:
        """Start the daemon and wait until it is registered.

        Raises:
            Trouble: it does not come up, or the coordinator does not take it.

        """
        self.miner = self._spawn("miner", ["-P", "-m", "fsm_miner", "--config", str(self.places.config)])
        self._until(lambda: bool(self.health().get("registered")), "miner", self.miner)

    @property
    def base_url(self) -> str:
        """The coordinator's URL, with /api/v1."""
        return (self.places.coordinator / "url").read_text().strip()

    @property
    def health_url(self) -> str | None:
        """The daemon's status page, None while there is no daemon."""
        running = find_running(self.places.miner)
        return None if running is None else running.health_url

    # Ending.

    def kill_miner(self) -> int:
        """Kill the daemon as `kill -9` does; return its process id."""
        assert self.miner is not None
        self.miner.kill()
        self.miner.wait()
        pid, self.miner = self.miner.pid, None
        return pid

    def stop(self, *, end_jobs: bool) -> None:
        """End the daemon, then with `end_jobs` whatever it left running, then the coordinator."""
        # A terminal that is closed now must not leave half of it behind.
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        try:
            self._end("miner")
            for process in self.living_runs() if end_jobs else ():
                with contextlib.suppress(psutil.NoSuchProcess):  # it ended meanwhile
                    process.kill()  # the sandbox dies with its parent
                    process.wait(STOP_S)
        finally:
            self._end("coordinator")
            self.client.close()

    def living_runs(self) -> list[psutil.Process]:
        """Return the processes of the journal's runs that are alive: for each the sandbox's parent."""
        found: list[psutil.Process] = []
        for record in self.records():
            pid = record.data.get("pid") if record.event == "Launched" else None
            with contextlib.suppress(psutil.NoSuchProcess):
                if pid is not None and _is_run(process := psutil.Process(pid), record.data["started_ns"]):
                    found.append(process)
        return found

    # Looking.

    def records(self, job_id: str | None = None) -> list[Record]:
        """Read the journal, verified; only that of a job if one is given. Empty while there is none."""
        try:
            with open_reader(self.places.journal) as reader:
                return [record for record in reader.records() if job_id in {None, record.job_id}]
        except FileNotFoundError:
            return []
        except JournalError:
            if self.miner is not None and self.miner.poll() is None:
                return []  # just being made, or put right after a kill
            raise

    def health(self) -> dict[str, Any]:
        """Return what the daemon says of itself, {} if it does not answer."""
        if (url := self.health_url) is None:
            return {}
        try:
            return self.client.get(f"{url}/healthz").json()
        except (httpx.HTTPError, ValueError):
            return {}

    def admin(self, method: str, path: str, **more: Any) -> Any:
        """Make a call of the coordinator's admin interface and decode its JSON.

        Raises:
            Trouble: it was refused, or nobody answers.

        """
        try:
            answer = self.client.request(method, self.base_url.removesuffix("/api/v1") + path, **more)
        except httpx.HTTPError as error:
            raise Trouble(
                f"the coordinator does not answer: {error}; see {self.places.logs}/coordinator.err"
            ) from error
        if answer.is_error:
            raise Trouble(f"{method} {path}: {answer.status_code}: {answer.text[:500]}")
        return answer.json()

    # Parts.

    def _spawn(self, name: str, arguments: list[str]) -> "subprocess.Popen[bytes]":
        self.places.logs.mkdir(parents=True, exist_ok=True)
        with (self.places.logs / f"{name}.err").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, *arguments],
                cwd=self.places.root,
                env=_environment(os.environ, self.token),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C reaches us alone: we end them, in order
            )

    def _until(self, there: Callable[[], bool], name: str, process: "subprocess.Popen[bytes]") -> None:
        end = time.monotonic() + START_S
        log = self.places.logs / f"{name}.err"
        while not there():
            if (code := process.poll()) is not None:
                raise Trouble(f"the {name} ended at once, with status {code}:\n{_tail(log)}")
            if time.monotonic() > end:
                raise Trouble(f"the {name} is not ready after {START_S:g} s; see {log}:\n{_tail(log)}")
            time.sleep(_POLL_S)

    def _end(self, name: str) -> None:
        process = self.miner if name == "miner" else self.coordinator
        if process is None:
            return
        with _unhurried():
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        setattr(self, name, None)


def _environment(ours: Mapping[str, str], token: str) -> dict[str, str]:
    kept = {name: ours[name] for name in ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR") if name in ours}
    return kept | {"MINER_AUTH": token, "PYTHONUNBUFFERED": "1"}


def _is_run(process: psutil.Process, started_ns: int) -> bool:
    """Whether it is the process that the journal means, not another that has got its number since."""
    return (
        abs(process.create_time() - started_ns / 1e9) < _SAME_START_S
        and process.status() != psutil.STATUS_ZOMBIE
    )


@contextlib.contextmanager
def _unhurried() -> Generator[None]:
    """Let a second Ctrl-C not cut the cleaning up short."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _tail(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()[-_TAIL_LINES:]
    return "\n".join(f"  {line}" for line in lines)
