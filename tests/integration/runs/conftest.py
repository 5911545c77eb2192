"""Runs in real sandboxes, below tmp_path; whatever a test leaves alive is stopped and reaped."""

# ruff: noqa: ASYNC110  (a test's event loop has nothing else to do; other processes set no Event)

import asyncio
import os
import subprocess
import tempfile
from pathlib import Path

import pytest

import runners
from runners.host import HostProblems, HostTools, probe_host
from runners.launch import Launched, launch
from runners.log import RunLog
from runners.run import Limits, RunPaths, RunSpec
from runners.stop import stop
from runners.wait import Ended, wait_end
from tests.support.needs import lacking

DEADLINE_S = 30


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> HostTools:
    found = probe_host(copies=tmp_path_factory.mktemp("host") / "copies")
    if isinstance(found, HostProblems):
        message = "; ".join(found.problems)
        lacking(message)
    return found


class Runs:
    """Makes and starts runs; `limits` may be replaced by the test."""

    def __init__(self, folder: Path, host: HostTools) -> None:
        self.folder = folder
        self.host = host
        self.started: list[Launched] = []

    def spec(self, *argv: str, name: str = "job", env=None, **changes) -> RunSpec:
        base = self.folder / name
        for part in ("work", "input", "output", "logs", "control"):
            (base / part).mkdir(parents=True, exist_ok=True)
        paths = RunPaths(
            base / "work", base / "input", base / "output", base / "logs" / "exec.log", base / "control"
        )
        limits = changes.pop("limits", None) or limits_of()
        return RunSpec(
            name=name,
            run=changes.pop("run", 1),
            argv=argv,
            env={"PATH": "/usr/bin:/bin"} if env is None else env,
            paths=paths,
            limits=limits,
            **changes,
        )

    def shell(self, script: str, **changes) -> RunSpec:
        return self.spec("/bin/sh", "-c", script, **changes)

    def python(self, code: str, **changes) -> RunSpec:
        return self.spec("/usr/bin/python3", "-c", code, **changes)

    def launch(self, spec: RunSpec) -> Launched:
        launched = launch(spec, self.host)
        self.started.append(launched)
        return launched

    def finish(self, spec: RunSpec) -> Ended:
        """Start and wait."""

        async def go() -> Ended:
            launched = self.launch(spec)
            async with asyncio.timeout(DEADLINE_S):
                return await wait_end(launched.files, child=launched.pid)

        return asyncio.run(go())

    async def printed(self, spec: RunSpec, text: str) -> None:
        """Wait until the log holds `text`."""
        async with asyncio.timeout(DEADLINE_S):
            while text not in self.log(spec):
                await asyncio.sleep(0.005)

    def log(self, spec: RunSpec) -> str:
        """Return what a run has printed, to the disk or, if it was launched here, into memory."""
        launched = next((one for one in self.started if one.files.lock == spec.lock), None)
        log = RunLog(spec.paths.log) if launched is None else launched.files.log
        try:
            with os.fdopen(log.open(), "rb") as content:
                return os.pread(content.fileno(), 2**20, 0).decode()
        except FileNotFoundError:
            return ""

    async def clean(self) -> None:
        for launched in self.started:
            await stop(launched.files, 0)
            await wait_end(launched.files, child=launched.pid)


def limits_of(**changes) -> Limits:
    fields = {"time_s": 60, "grace_s": 1, "memory_mb": 512, "output_mb": 50, "log_mb": 5, **changes}
    return Limits(**fields)


@pytest.fixture
def as_nobody(host):
    """Run Python code as an unprivileged user; give it a folder that is its own, as an argument and afterwards."""
    with tempfile.TemporaryDirectory() as name:  # not tmp_path: pytest closes the folders above it for others
        folder = Path(name)
        folder.chmod(0o755)
        source, home = folder / "runners", folder / "home"
        source.mkdir()
        home.mkdir()
        for path in Path(runners.__file__).parent.glob("*.py"):
            (source / path.name).write_bytes(path.read_bytes())
        os.chown(home, 65534, 65534)
        user = ["/usr/bin/setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]

        def run(code: str) -> tuple[subprocess.CompletedProcess[bytes], Path]:
            done = subprocess.run(
                [*user, "/usr/bin/python3", "-c", code, str(home)],
                cwd=folder,
                capture_output=True,
                timeout=60,
                check=False,
                env={"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
            )
            return done, home

        yield run


@pytest.fixture
def runs(tmp_path, host):
    made = Runs(tmp_path, host)
    yield made
    asyncio.run(made.clean())


@pytest.fixture
def limits():
    return limits_of
