"""Starting a run: at most once, and in such a way that it needs nobody to stay alive."""

import contextlib
import errno
import fcntl
import os
import signal
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from runners import cgroup as cgroups
from runners.clock import boot_id, boottime_ns, utc_ns
from runners.host import Backend, HostTools
from runners.lock import RunError, create_locked
from runners.log import MemoryFile
from runners.opening import open_fresh, open_log, open_memory
from runners.run import RunFiles, RunSpec, files_of
from runners.sandbox import (
    GATE_FD,
    LOCK_FD,
    OPTIONS_FD,
    SANDBOX_LOCK_FD,
    SECCOMP_FD,
    SECRET_FILES_FD,
    STATUS_FD,
    Assembly,
    assemble,
)
from runners.status import LaunchFacts, launch_line

__all__ = ["LaunchFailed", "Launched", "launch"]

# What Python, or whoever started the daemon, ignores goes back to its default in the child.
_DEFAULT_SIGNALS = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
# Above every descriptor number that the child uses, so that no dup2 there overwrites a source.
_SOURCE_FD_MIN = 64
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


class LaunchFailed(RunError):
    """Nothing was started and nothing is left: the run may be tried again once the reason is gone."""


@dataclass(frozen=True, slots=True)
class Launched:
    """A run that was started. `pid` is a child of this process: `timeout`, the sandbox's parent.

    `started_ns` is UTC; `started_boottime_ns` is CLOCK_BOOTTIME of the boot `boot_id`. `backend` and `cgroup`
    say how the run is kept apart; `cgroup` is what to remove when it has ended. `gate` is a descriptor for the
    caller to close, where the run has egress: the command waits for that.
    """

    pid: int
    started_ns: int
    started_boottime_ns: int
    boot_id: str
    backend: Backend
    files: RunFiles
    cgroup: Path | None
    gate: int | None = None


def launch(
    spec: RunSpec,
    host: HostTools,
    *,
    cgroup_parent: Path | None = None,
    utc: Callable[[], int] = utc_ns,
    boottime: Callable[[], int] = boottime_ns,
) -> Launched:
    """Start the run and return at once (1 to 2 ms); it goes on when this process dies.

    `cgroup_parent` is a cgroup v2 folder that `cgroup.problem_with` found usable, or None.

    Raises:
        AlreadyStarted: this run was started before, or a start was tried.
        LaunchFailed: something is missing; nothing was started.
        ValueError: the specification holds something that must not be started.

    """
    group = None if cgroup_parent is None else cgroup_parent / spec.name
    assembly = assemble(spec, host, cgroup=group)
    this_boot = boot_id()
    with ExitStack() as opened:
        try:
            locks = create_locked(spec.lock)  # first of all: from here on, nobody else starts this run
        except OSError as error:
            raise LaunchFailed(f"{spec.name}: cannot start: {error}") from error
        for fd in locks:
            opened.callback(os.close, fd)
        try:
            memory_log = MemoryFile() if spec.told_secrets else None
            log = _closing(
                opened, open_log(spec.paths.log) if memory_log is None else memory_log.open_for_run()
            )
            status = _closing(opened, open_fresh(spec.status))
            output = log if spec.stdout is None else _closing(opened, open_fresh(spec.stdout))
            facts = LaunchFacts(utc(), boottime(), this_boot, os.fstat(log).st_size)
            os.write(status, launch_line(facts))
            if cgroup_parent is not None:
                cgroups.create(cgroup_parent, spec.name, spec.limits)
            host.copies.restore(spec.devices)
            targets = {
                0: _closing(opened, _nothing()),
                1: output,
                2: log,
                LOCK_FD: locks[0],
                SANDBOX_LOCK_FD: locks[1],
                STATUS_FD: status,
            }
            for target, content in _handed(assembly):
                targets[target] = opened.enter_context(_pipe_of(content))
            gate = None
            if spec.egress:
                targets[GATE_FD], gate = os.pipe2(os.O_CLOEXEC)
                _closing(opened, targets[GATE_FD])
            try:
                pid = _spawn(assembly, targets)
            except OSError:
                if gate is not None:
                    os.close(gate)
                raise
        except (OSError, ValueError) as error:
            _undo(spec, group)
            if isinstance(error, ValueError):
                raise
            raise LaunchFailed(f"{spec.name}: cannot start: {error}") from error
    return Launched(
        pid=pid,
        started_ns=facts.at_ns,
        started_boottime_ns=facts.boottime_ns,
        boot_id=this_boot,
        backend=host.backend,
        files=files_of(spec.paths, spec.run, group, spec.stdout, memory_log),
        cgroup=group,
        gate=gate,
    )


def _undo(spec: RunSpec, group: Path | None) -> None:
    """Leave nothing of a launch that started nothing; the lock goes last."""
    if group is not None:
        cgroups.remove(group)
    spec.status.unlink(missing_ok=True)
    spec.lock.unlink()


def _nothing() -> int:
    """Return a file that has nothing to read: of /dev/null root's jobs could take the permissions away by fchmod(2)."""
    fd = open_memory("stdin")
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    return fd


def _closing(opened: ExitStack, fd: int) -> int:
    opened.callback(os.close, fd)
    return fd


def _handed(assembly: Assembly) -> Iterator[tuple[int, bytes]]:
    """Yield what bwrap is to read, and from which descriptors."""
    if assembly.options:
        yield OPTIONS_FD, assembly.options
    if assembly.seccomp:
        yield SECCOMP_FD, assembly.seccomp
    yield from enumerate(assembly.files, SECRET_FILES_FD)


@contextmanager
def _pipe_of(content: bytes) -> Generator[int]:
    """Yield the reading end of a pipe that holds `content`: gone once read, and never swapped to a disk.

    How much may be in pipes is counted by user (pipe(7), pipe-user-pages-soft), and jobs' own pipes count. Where they
    have left too little, it is a file in memory, gone once it is closed.
    """
    with ExitStack() as opened:
        read_fd, write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        _closing(opened, read_fd)
        try:
            fits = _written(write_fd, content)
        finally:
            os.close(write_fd)
        if not fits:
            read_fd = _closing(opened, open_memory("options"))
            if os.write(read_fd, content) != len(content):
                raise OSError(errno.ENOMEM, "the sandbox's options do not fit into memory")
            os.lseek(read_fd, 0, os.SEEK_SET)
        os.set_blocking(read_fd, True)
        yield read_fd


def _written(pipe: int, content: bytes) -> bool:
    """Write all of `content` into a pipe that is empty, or tell that it does not fit."""
    try:
        if len(content) > fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, len(content))
        return not content or os.write(pipe, content) == len(content)
    except (PermissionError, BlockingIOError):
        return False


def _inheritable() -> Iterator[int]:
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile, by another thread or by this walk
            if os.get_inheritable(int(entry.name)):
                yield int(entry.name)


def _spawn(assembly: Assembly, targets: dict[int, int]) -> int:
    """Start the chain as the leader of a session of its own, with exactly these descriptors."""
    with ExitStack() as copies:
        actions: list[tuple[int, int] | tuple[int, int, int]] = []
        for target, source in targets.items():
            high = fcntl.fcntl(source, fcntl.F_DUPFD_CLOEXEC, _SOURCE_FD_MIN)
            copies.callback(os.close, high)
            actions.append((os.POSIX_SPAWN_DUP2, high, target))
        # bwrap hands on what it does not know; whatever a library left inheritable stays here.
        actions += [(os.POSIX_SPAWN_CLOSE, fd) for fd in _inheritable() if fd not in targets]
        # Not subprocess: no object here owns the child, which is to outlive this process.
        return os.posix_spawn(
            assembly.argv[0],
            assembly.argv,
            assembly.env,
            file_actions=actions,
            setsid=True,
            setsigmask=(),
            setsigdef=_DEFAULT_SIGNALS,
        )
