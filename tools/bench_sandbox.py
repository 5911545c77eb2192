"""What starting the sandbox costs: the chain that runs a job, against bare starts of the same program."""

import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path

from runners.egress import open_listener
from runners.host import HostTools
from runners.launch import launch
from runners.run import Limits, RunPaths, RunSpec

__all__ = ["bare_chain_ms", "start_costs_ms", "two_chains_per_s"]

PROGRAM = "/usr/bin/true"
# A sandbox with all namespaces and the view that a dynamic program needs, and nothing else of ours.
_MINIMAL_VIEW = (
    *(
        "--unshare-all",
        "--ro-bind",
        "/usr",
        "/usr",
        "--symlink",
        "usr/lib",
        "/lib",
        "--symlink",
        "usr/lib64",
        "/lib64",
    ),
    *("--proc", "/proc", "--dev", "/dev"),
)


def _spec(folder: Path) -> RunSpec:
    for name in ("work", "input", "output", "control"):
        (folder / name).mkdir(parents=True)
    paths = RunPaths(
        folder / "work", folder / "input", folder / "output", folder / "exec.log", folder / "control"
    )
    return RunSpec("bench", 1, (PROGRAM,), {"PATH": "/usr/bin"}, paths, Limits(60, 5, 16384, 1000, 64))


def _run(spec: RunSpec, host: HostTools) -> None:
    started = launch(spec, host)
    if started.gate is not None:
        open_listener(started.files).close()
        os.close(started.gate)
    _, status = os.waitpid(started.pid, 0)
    assert status == 0, f"{spec.name}: status {status}; see {spec.paths.log}"


def _spawn(*argv: str) -> None:
    pid = os.posix_spawn(argv[0], argv, {"PATH": "/usr/bin"})
    _, status = os.waitpid(pid, 0)
    assert status == 0, f"{argv[0]}: status {status}"


def start_costs_ms(host: HostTools, folder: Path, times: int) -> Mapping[str, float]:
    """Return the median from starting `true` to its end, by how it is started. All kinds in turns, `times` each."""
    assert host.bwrap is not None
    bwrap = host.bwrap
    fresh = (folder / str(number) for number in count())
    secrets = {f"SECRET_{n}": "x" * 40 for n in range(4)}
    kinds: dict[str, Callable[[], None]] = {
        "bare": lambda: _spawn(PROGRAM),
        "bare bwrap": lambda: _spawn(bwrap, *_MINIMAL_VIEW, PROGRAM),
        "complete": lambda: _run(_spec(next(fresh)), host),
        "with secrets": lambda: _run(
            replace(_spec(next(fresh)), secret_env=secrets, secret_files=secrets), host
        ),
        "with egress": lambda: _run(replace(_spec(next(fresh)), egress=True), host),
    }
    took: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(times):
        for name, start in kinds.items():
            began = time.perf_counter()
            start()
            took[name].append((time.perf_counter() - began) * 1e3)
    return {name: statistics.median(each) for name, each in took.items()}


def bare_chain_ms(host: HostTools, folder: Path, times: int) -> float:
    """Return the median of starting the sandbox chain and waiting for its end."""
    took: list[float] = []
    for number in range(times):
        spec = _spec(folder / str(number))
        began = time.perf_counter()
        _run(spec, host)
        took.append((time.perf_counter() - began) * 1e3)
    return statistics.median(took)


def two_chains_per_s(host: HostTools, folder: Path, times: int) -> float:
    """Return how many bare chains a second end, two running at any time."""
    specs = [_spec(folder / f"two-{number}") for number in range(times)]
    running: set[int] = set()
    began = time.perf_counter()
    while specs or running:
        while specs and len(running) < 2:
            running.add(launch(specs.pop(), host).pid)
        pid, _ = os.wait()
        running.discard(pid)
    return times / (time.perf_counter() - began)
