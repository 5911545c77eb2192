"""A coordinator and a node as real processes, below one folder, and what tests ask of them.

The daemon runs in `sys.executable`, outside of the repository and with `-P`: whatever is installed there is tested.
Whatever is alive at the end is found by the environment marker or by its open files below the folder, and killed.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import httpx
import yaml

from journal import Record, StreamKey, open_reader
from runners.process import children_of

TOOLS = Path(__file__).parents[3] / "tools"
TOKEN = "bootstrap-token-that-nobody-may-see"
MARKER = "FSM_MINER_TEST_FOLDER"
# A machine that is emulated takes so many times longer for everything.
DEADLINE_S = 30.0 * int(os.environ.get("FSM_MINER_TEST_SLOWNESS", "1"))

T = TypeVar("T")
# What the daemon logs only when one of its own parts is broken.
DEFECTS = {"effect_failed", "illegal_transition", "loop_failed", "task_failed", "cannot_start"}

SH_RULE = {
    "command": {"path": "/bin/sh"},
    "args": [["-c", "(?s).*"]],
    "env": ["GREETING", "API_KEY"],
    "max_runtime_s": 60,
    "max_output_mb": 8,
}
ECHO_RULE = {"command": {"path": "/usr/bin/echo"}, "args": [["[a-z ]{1,40}"]], "max_output_mb": 1}


def until(ask: Callable[[], T], what: str, deadline_s: float = DEADLINE_S) -> T:
    """Ask until the answer is true, and return it."""
    end = time.monotonic() + deadline_s
    while not (answer := ask()):
        assert time.monotonic() < end, f"not within {deadline_s} s: {what}"
        time.sleep(0.01)
    return answer


def processes(folder: Path) -> dict[int, str]:
    """Return (process id: command line) of whatever works below `folder`, found by marker or by open files."""
    return {
        int(p.name): _command(p) for p in Path("/proc").iterdir() if p.name.isdigit() and _works(p, folder)
    }


def _works(process: Path, folder: Path) -> bool:
    if int(process.name) == os.getpid():
        return False
    try:
        if f"{MARKER}={folder}".encode() in (process / "environ").read_bytes().split(b"\0"):
            return True
        return any(name.startswith(f"{folder}/") for name in _open_files(process))
    except OSError:
        return False


def _link(fd: Path) -> str:
    try:
        return str(fd.readlink())
    except OSError:
        return ""


def _command(process: Path) -> str:
    try:
        return (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def holders(path: Path) -> list[int]:
    """Return the ids of the processes that have `path` open."""
    return [int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit() and str(path) in _open_files(p)]


def kill_holders(path: Path) -> list[int]:
    """SIGKILL everything that has `path` open, and return the process ids.

    The outer bwrap goes first, whether it has the file open or not: it must not see its sandbox end, and write an
    exit code, before it is gone itself.
    """
    found = holders(path)
    below = [child for pid in found for child in children_of(pid)]
    outer = [pid for pid in below if set(children_of(pid)) & set(found)]
    for pid in [*outer, *found]:
        _kill(pid)
    return found


def _open_files(process: Path) -> set[str]:
    try:
        return {_link(fd) for fd in (process / "fd").iterdir()}
    except OSError:
        return set()


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


class Program:
    """A process of ours: started, ended, killed, started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.output = folder / "output.txt"
        self.process: subprocess.Popen[bytes] | None = None

    def spawn(self, command: list[str], marker: Path, env: Mapping[str, str]) -> None:
        assert self.process is None
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                command,
                cwd=self.folder,
                env={"PATH": os.environ["PATH"], MARKER: str(marker), "MINER_AUTH": TOKEN, **env},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def exit_code(self, deadline_s: float = DEADLINE_S) -> int:
        assert self.process is not None
        code = self.process.wait(deadline_s)
        self.process = None
        return code

    def kill(self) -> None:
        """SIGKILL."""
        self.signal(signal.SIGKILL)
        self.exit_code()

    def stop(self) -> None:
        """SIGTERM, and a good end."""
        if self.process is not None:
            self.signal(signal.SIGTERM)
            code = self.exit_code(10)
            assert code == 0, f"exit code {code}: {self.output.read_text()[-2000:]}"


class Coordinator(Program):
    """The dev coordinator. Keeps its port over restarts."""

    def __init__(self, folder: Path, *options: str) -> None:
        folder.mkdir(parents=True)
        super().__init__(folder)
        self.options = options
        self.port = 0
        self.http = httpx.Client(timeout=90, trust_env=False)

    def start(self) -> None:
        announced = self.folder / "data" / "url"
        announced.unlink(missing_ok=True)
        command = [sys.executable, str(TOOLS / "dev_coordinator.py"), "--data", str(self.folder / "data")]
        self.spawn([*command, "--listen", f"127.0.0.1:{self.port}", *self.options], self.folder.parent, {})
        until(lambda: announced.exists() or not self.alive(), "the coordinator listens")
        self.base_url = announced.read_text().strip()
        self.root = self.base_url.removesuffix("/api/v1")
        self.port = int(self.root.rpartition(":")[2])

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        content = (
            None if body is None else json.dumps(body).encode("ascii")
        )  # lone surrogates travel as escapes
        answer = self.http.request(method, self.root + path, content=content)
        assert answer.status_code < 300, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json()

    def submit(self, *manifests: Mapping[str, Any]) -> list[str]:
        return self.ask("POST", "/admin/jobs", list(manifests))["job_ids"]

    def wait(self, job_id: str, timeout_s: float = DEADLINE_S) -> dict[str, Any]:
        view = self.ask("GET", f"/admin/wait?job={job_id}&timeout={timeout_s}")
        assert view["over"], f"{job_id} is not over after {timeout_s} s: {view['state']} {view['attempts']}"
        return view

    def wait_all(self, timeout_s: float = DEADLINE_S) -> dict[str, int]:
        answer = self.ask("GET", f"/admin/wait?timeout={timeout_s}")
        assert answer["over"], answer
        return answer["counts"]

    def run(self, manifest: Mapping[str, Any], timeout_s: float = DEADLINE_S) -> dict[str, Any]:
        """Submit and wait."""
        return self.wait(self.submit(manifest)[0], timeout_s)

    def offer(self, raw: Any) -> None:
        self.ask("POST", "/admin/offers", {"raw": raw})

    def outcomes(self, job_id: str | None = None) -> list[dict[str, Any]]:
        found = self.ask("GET", "/admin/outcomes")["outcomes"]
        return [one for one in found if job_id in (None, one["job_id"])]

    def outcome_of_offer(self, job_id: str) -> dict[str, Any]:
        return until(lambda: self.outcomes(job_id), f"an outcome of {job_id}")[0]

    def fault(self, match: str, do: str, times: int = 1, skip: int = 0) -> None:
        self.ask("POST", "/admin/faults", {"match": match, "do": do, "times": times, "skip": skip})

    def faults(self) -> list[dict[str, Any]]:
        return self.ask("GET", "/admin/faults")["faults"]

    def no_faults(self) -> None:
        self.ask("DELETE", "/admin/faults")

    def cancel(self, job_id: str) -> None:
        self.ask("POST", f"/admin/jobs/{job_id}/cancel")

    def artifact(self, job_id: str, path: str, attempt: int = 1) -> bytes:
        return (self.folder / "data" / "results" / job_id / str(attempt) / "artifacts" / path).read_bytes()

    def log_of(self, job_id: str, attempt: int = 1) -> str:
        return (self.folder / "data" / "results" / job_id / str(attempt) / "logs" / "exec.log").read_text()

    def put_file(self, name: str, content: bytes) -> str:
        url = f"{self.root}/files/{name}"
        assert self.http.put(url, content=content).status_code == 201
        return url


class Node(Program):
    """The daemon, its configuration, and what it leaves on the disk."""

    def __init__(self, folder: Path, base_url: str, **changes: Any) -> None:
        super().__init__(folder)
        self.base_url = base_url
        self.config_file = folder / "config.yaml"
        self.allowlist = folder / "allowlist.d"
        self.tasks = folder / "tasks"
        self.jobs = folder / "jobs"
        self.log_file = folder / "miner.jsonl"
        self.journal_file = folder / "state" / "journal.db"
        self.env: dict[str, str] = {}
        self.secrets = {TOKEN}
        self.defects_allowed: set[str] = set()
        for made in (folder, self.allowlist, self.tasks):
            made.mkdir(parents=True)
        self.allow("sh", SH_RULE)
        self.allow("echo", ECHO_RULE)
        self.configure(**changes)

    def configure(self, **changes: Any) -> None:
        """Write the configuration; `changes` are merged in, section by section."""
        config: dict[str, Any] = {
            "node_id": "node-e2e",
            "coordinator": {
                "base_url": self.base_url,
                "auth_token": "env:MINER_AUTH",
                "timeout_s": 10,
                "pull_wait_s": 5,
                "poll_interval_s": 0.05,
            },
            "heartbeat": {"interval_s": 0.2, "backoff": {"min_s": 0.05, "max_s": 0.5}},
            "runners": {
                "cli": {"allowlist_files": [str(self.allowlist)]},
                "python": {"task_paths": [str(self.tasks)], "venv": sys.prefix},
            },
            "resources": {"max_concurrent_cpu": 4, "disk_reserve_mb": 16, "mem_soft_mb": 256},
            "workspace": {"root": str(self.jobs)},
            "logging": {"path": str(self.log_file), "level": "debug"},
            "journal": {"path": str(self.journal_file)},
            "health": {"listen": "127.0.0.1:0"},
            "retries": {"max_attempts": 3, "base_s": 0.05, "max_s": 0.2},
            "timeouts": {"stop_grace_s": 0.5},
        }
        for name, section in changes.items():
            config[name] = {**config.get(name, {}), **section} if isinstance(section, dict) else section
        self.config_file.write_text(yaml.safe_dump(config))

    def allow(self, name: str, rule: Mapping[str, Any]) -> None:
        """Put a rule file in place, at one stroke."""
        staged = self.folder / f"{name}.new"
        staged.write_text(yaml.safe_dump(dict(rule)))
        staged.replace(self.allowlist / f"{name}.yaml")

    def task(self, name: str, source: str) -> None:
        (self.tasks / f"{name}.py").write_text(source)

    def start(self, *, wait: bool = True) -> None:
        command = [sys.executable, "-P", "-m", "fsm_miner", "--config", str(self.config_file)]
        self.spawn(command, self.folder.parent, self.env)
        if wait:
            until(self.registered, "the node is registered")

    def restart(self) -> None:
        self.kill()
        self.start()

    def registered(self) -> bool:
        assert self.alive(), f"the daemon has ended: {self.output.read_text()[-3000:]}"
        url = self.status_url()
        return url is not None and self.health()["registered"]

    def status_url(self) -> str | None:
        try:
            found = json.loads((self.journal_file.parent / "daemon.lock").read_bytes() or b"{}")
        except FileNotFoundError:
            return None
        return found.get("health_url") if found.get("pid") == self.pid else None

    def get(self, path: str) -> httpx.Response:
        url = self.status_url()
        assert url is not None
        with httpx.Client(timeout=10, trust_env=False) as http:
            return http.get(url + path)

    def health(self) -> dict[str, Any]:
        return self.get("/healthz").json()

    def log(self, event: str | None = None) -> list[dict[str, Any]]:
        """Return the log's records."""
        try:
            lines = self.log_file.read_text().splitlines()
        except FileNotFoundError:
            return []
        return [one for one in map(json.loads, lines) if event in (None, one["event"])]

    def stream(self, job_id: str, attempt: int = 1) -> list[Record]:
        """Return what the journal knows of a job."""
        try:
            with open_reader(self.journal_file) as reader:
                return reader.read(StreamKey(job_id, attempt))
        except FileNotFoundError:
            return []

    def events(self, job_id: str, attempt: int = 1) -> list[str]:
        return [record.event for record in self.stream(job_id, attempt)]

    def await_event(self, job_id: str, event: str, count: int = 1) -> list[Record]:
        """Wait until the journal has the event, and return its records."""

        def found() -> list[Record]:
            records = [one for one in self.stream(job_id) if one.event == event]
            return records if len(records) >= count else []

        return until(found, f"{job_id}: {count} x {event}")

    def lock_of(self, job_id: str, run: int = 1) -> Path:
        return self.jobs / job_id / "control" / f"run-{run}.lock"

    def exec_log(self, job_id: str) -> Path:
        return self.jobs / job_id / "logs" / "exec.log"

    def await_printed(self, job_id: str, text: str) -> None:
        """Wait until the running job has printed `text`."""
        log = self.exec_log(job_id)
        until(lambda: log.exists() and text in log.read_text(), f"{job_id} prints {text!r}")

    def await_made(self, job_id: str, name: str) -> None:
        """Wait until the running job has made the file `name` where it began: a log in memory shows nobody anything."""
        until((self.jobs / job_id / "work" / name).exists, f"{job_id} makes {name!r}")

    def await_idle(self) -> None:
        """Wait until no job is unfinished."""
        until(lambda: self.health()["jobs"] == [], "nothing is unfinished")

    def sandbox_pid(self, job_id: str, run: int = 1) -> int:
        """Return the process id of the sandbox's first process."""
        status = self.jobs / job_id / "control" / f"run-{run}.status"

        def found() -> int:
            texts = [json.loads(line) for line in status.read_text().splitlines()] if status.exists() else []
            return next((one["child-pid"] for one in texts if "child-pid" in one), 0)

        return until(found, f"{job_id} has a sandbox")

    def files(self) -> Iterator[Path]:
        """Yield every file that the daemon may have written."""
        for path in self.folder.rglob("*"):
            if path.is_file() and not path.is_symlink():
                yield path

    def leaks(self) -> list[str]:
        """Return the files that hold one of `secrets`."""
        needles = [secret.encode() for secret in self.secrets]
        return [str(path) for path in self.files() if any(needle in _content(path) for needle in needles)]

    def check(self) -> None:
        """Check what must hold at any time: intact chains, no defect logged, no secret on the disk."""
        if self.journal_file.exists():
            with open_reader(self.journal_file) as reader:
                reader.verify()
                for key in reader.streams():
                    runs = Counter(r.data["run"] for r in reader.read(key) if r.event == "LaunchIntended")
                    assert set(runs.values()) <= {1}, f"{key}: a run was started twice: {runs}"
        defects = [one for one in self.log() if one["event"] in DEFECTS - self.defects_allowed]
        assert not defects, defects
        assert self.leaks() == []


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""  # renamed meanwhile: the daemon lives


class Rig:
    """A coordinator and a node that work together."""

    def __init__(self, folder: Path, *options: str, **config: Any) -> None:
        self.folder = folder
        self.coordinator = Coordinator(folder / "coordinator", "--max-attempts", "1", *options)
        self.coordinator.start()
        self.node = Node(folder / "node", self.coordinator.base_url, **config)

    def close(self) -> None:
        """End everything, kill what is left, and check what must hold at any time."""
        node = self.node
        try:
            idle = node.alive() and node.health()["jobs"] == []
            node.stop()
            self.coordinator.stop()
            left = processes(self.folder)
            assert not (idle and left), f"left behind although no job was unfinished: {left}"
            node.check()
        finally:
            self.coordinator.http.close()
            end_all(self.folder)


def end_all(folder: Path) -> None:
    """Kill whatever works below `folder`, and wait until it is gone."""

    def gone() -> bool:
        left = processes(folder)
        for pid in left:
            _kill(pid)
        return not left

    until(gone, "all processes are gone")


def sh(script: str, **more: Any) -> dict[str, Any]:
    """Return a manifest of a shell script; its standard output is not an artifact."""
    return {"runner": "cli", "command": "sh", "args": ["-c", script], "timeout_s": 30, **more}


def printed(script: str, **more: Any) -> dict[str, Any]:
    """Return a manifest of a shell script whose standard output is the artifact `out.txt`."""
    return sh(script, artifacts=[{"path": "out.txt", "type": "text/plain", "max_mb": 1}], **more)
