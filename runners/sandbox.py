"""The sandbox as data: from a run's description to an argument vector, without touching anything.

    sh (enter the cgroup) -> choom -> nice -> ionice -> prlimit -> timeout -> bwrap -> the command

Each program replaces the one before it by exec, except that `timeout` stays as bwrap's parent: it enforces the
time limit when the daemon is dead, and `--die-with-parent` ties the sandbox to it instead of to the daemon.

bwrap reads its options from a pipe (`--args`, bwrap(1)). So neither an argument list nor the environment of any
program outside the sandbox holds a job's variables: a secret shows nowhere, and LD_PRELOAD in a job's environment
reaches the command and nothing else. The chain itself runs with an empty environment.
"""

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from runners.host import HostTools
from runners.run import JOB_VIEW, SECRETS, Bind, Limits, RunSpec

__all__ = [
    "GATE_FD",
    "LOCK_FD",
    "OPTIONS_BYTES_MAX",
    "OPTIONS_FD",
    "SANDBOX_LOCK_FD",
    "SECCOMP_FD",
    "SECRET_FILES_FD",
    "STATUS_FD",
    "Assembly",
    "assemble",
    "backstop_s",
]

# The descriptors that the launcher hands over, besides 0, 1 and 2.
LOCK_FD = 3
SANDBOX_LOCK_FD = 4
STATUS_FD = 5
OPTIONS_FD = 6
SECCOMP_FD = 7
GATE_FD = 8
"""For a run with egress: the command starts when the other end of this pipe is closed."""
SECRET_FILES_FD = 9
"""And up: one for each file with a secret, in their order."""

OPTIONS_BYTES_MAX = 512 * 1024
_OPTIONS_MAX = 8000  # bwrap takes 9000 arguments
# Any user but the daemon's: files that belong to others on the host show up as 65534, the job's own as this.
_UID = 1000
_MIB = 1024 * 1024
_SECRETS_BYTES = 4 * _MIB
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_IO_CLASSES = {"best-effort": "2", "idle": "3"}
_OOM_SCORE_ADJ = 500
_ENTER_CGROUP = 'echo 0 > "$1/cgroup.procs" && shift && exec "$@"'
_WITHOUT_LOCK = f'exec "$@" {LOCK_FD}<&-'


@dataclass(frozen=True, slots=True)
class Assembly:
    """What to spawn: `argv` with `env`, and what bwrap is to read from OPTIONS_FD and SECCOMP_FD.

    `files` are contents for SECRET_FILES_FD and up. All but `argv` and `seccomp` is secret.
    """

    argv: tuple[str, ...]
    options: bytes = field(default=b"", repr=False)
    seccomp: bytes = field(default=b"", repr=False)
    files: tuple[bytes, ...] = field(default=(), repr=False)
    env: dict[str, str] = field(default_factory=dict[str, str], repr=False)


def assemble(spec: RunSpec, host: HostTools, *, cgroup: Path | None) -> Assembly:
    """Return how to start `spec` on `host`; `cgroup` is the run's own, or None for limits without one.

    Raises:
        ValueError: the specification holds something that must not be started. Names what.

    """
    _check(spec)
    before = _chain(spec, host, cgroup)
    if host.bwrap is None:
        if spec.secret_files:
            raise ValueError(f"{spec.name}: secrets as files need the sandbox (sandbox.backend)")
        if spec.egress:
            raise ValueError(f"{spec.name}: network.allow needs the sandbox (sandbox.backend)")
        return Assembly(argv=(*before, *_unsandboxed(spec, host)), env={**spec.env, **spec.secret_env})
    options = list(_options(spec, host))
    if len(options) + len(spec.argv) > _OPTIONS_MAX:
        raise ValueError(
            f"{spec.name}: {len(options)} sandbox options, at most {_OPTIONS_MAX}: fewer variables or binds"
        )
    text = b"".join(option.encode() + b"\0" for option in options)
    if len(text) > OPTIONS_BYTES_MAX:
        raise ValueError(
            f"{spec.name}: {len(text)} bytes of sandbox options, at most {OPTIONS_BYTES_MAX}: less in env"
        )
    return Assembly(
        argv=(*before, *_unlocked(spec, host), host.bwrap, "--args", str(OPTIONS_FD), "--", *spec.argv),
        options=text,
        seccomp=_filter(host, cgroup),
        files=tuple(value.encode() for value in spec.secret_files.values()),
    )


def _filter(host: HostTools, cgroup: Path | None) -> bytes:
    if not host.seccomp or cgroup is not None:
        return host.seccomp
    return host.seccomp_uncounted or host.seccomp


def _check(spec: RunSpec) -> None:
    if not spec.argv or not spec.argv[0].startswith("/"):
        raise ValueError(f"{spec.name}: argv[0]: not an absolute path")
    both = spec.env.keys() & spec.secret_env.keys()
    if both:
        raise ValueError(f"{spec.name}: {min(both)}: both in the environment and a secret")
    for name in (*spec.env, *spec.secret_env, *spec.secret_files):
        if not _ENV_NAME.fullmatch(name):
            raise ValueError(f"{spec.name}: environment: {name[:40]!r} is not a variable's name")
    for bind in spec.binds:
        if not bind.target.startswith("/") or bind.target == "/" or ".." in bind.target.split("/"):
            raise ValueError(f"{spec.name}: bind target {bind.target!r}: not an absolute path below /")
    for device in spec.devices:
        if not device.startswith("/dev/") or ".." in device.split("/"):
            raise ValueError(f"{spec.name}: device {device!r}: not a path below /dev")
    # The message must not show the text: it may be a secret.
    texts = (*spec.argv, *spec.env.values(), *spec.secret_env.values(), *spec.secret_files.values())
    if any("\0" in text for text in texts):
        raise ValueError(f"{spec.name}: a NUL character in an argument or in the environment")
    limits = spec.limits
    if not (math.isfinite(limits.time_s) and limits.time_s > 0 and limits.memory_mb > 0):
        raise ValueError(f"{spec.name}: limits: time_s and memory_mb must be above 0")
    if limits.io_class not in _IO_CLASSES:
        raise ValueError(
            f"{spec.name}: limits: io_class {limits.io_class!r}: one of {', '.join(_IO_CLASSES)}"
        )


def _chain(spec: RunSpec, host: HostTools, cgroup: Path | None) -> Iterator[str]:
    limits = spec.limits
    if cgroup is not None:
        yield from (host.sh, "-c", _ENTER_CGROUP, "sh", str(cgroup))
    # Should the machine run out of memory, jobs go first. Where this process itself is chosen before them (some
    # containers: 1000), nobody but root may ask for less (proc(5)), and need not.
    if host.base_oom < _OOM_SCORE_ADJ:
        yield from (host.choom, "-n", str(_OOM_SCORE_ADJ), "--")
    if (missing := limits.nice - host.base_nice) > 0:
        yield from (host.nice, "-n", str(missing))
    yield from (host.ionice, "-c", _IO_CLASSES[limits.io_class])
    if limits.io_class == "best-effort":
        yield from ("-n", str(limits.io_level))
    yield from (host.prlimit, *_rlimits(limits, spec.gpu, cgroup, host), "--")
    seconds = backstop_s(limits.time_s, limits.grace_s)
    yield from (host.timeout, "--signal=KILL", f"{seconds:.3f}s")


def backstop_s(time_s: float, grace_s: float) -> float:
    """Return after how many seconds a run is killed without a daemon: later than its own TERM, grace and KILL."""
    return time_s + grace_s + 2


def _rlimits(limits: Limits, gpu: bool, cgroup: Path | None, host: HostTools) -> Iterator[str]:
    # Not 0: where core_pattern names a program, the kernel hands it the memory of a dying process whatever the limit,
    # as root and outside of the sandbox; 1 alone forbids that (core(5), fs/coredump.c). A file needs a page or more.
    yield "--core=1" if host.cores_max != 0 else "--core=0"
    yield f"--nofile={limits.open_files}"
    # Above the watched limits, so that the watchdog sees and names the breach; binding when the daemon is dead.
    yield f"--fsize={(max(limits.output_mb, limits.log_mb) + 16) * _MIB}"
    if cgroup is not None:
        return  # memory.max and pids.max are exact
    # RLIMIT_NPROC counts all processes of the daemon's user, other jobs' too, and not at all for root: only a
    # backstop against a fork bomb between two looks of the watchdog, which counts each run's own.
    # A small machine's hard limit is lower (systemd derives it from memory), and can't be raised.
    backstop = limits.processes * 4 + 4096
    yield f"--nproc={backstop if host.processes_max is None else min(backstop, host.processes_max)}"
    if not gpu:  # CUDA reserves address space by the terabyte
        yield f"--as={(limits.memory_mb * 4 + 4096) * _MIB}"


def _options(spec: RunSpec, host: HostTools) -> Iterator[str]:
    # All of them, and none only if possible.
    yield from (
        "--unshare-all",
        "--unshare-user",
        "--unshare-cgroup",
        "--disable-userns",
        "--die-with-parent",
        "--new-session",
    )
    yield from ("--uid", str(_UID), "--gid", str(_UID), "--hostname", "job", "--cap-drop", "ALL")
    yield from ("--sync-fd", str(SANDBOX_LOCK_FD), "--json-status-fd", str(STATUS_FD))
    # bwrap reads a byte from it and closes it: the outer lock is `timeout`'s, and must not reach the command.
    # From the gate it gets the end instead, once the daemon has opened the listener, or is dead.
    yield from ("--block-fd", str(GATE_FD if spec.egress else LOCK_FD))
    if host.seccomp:
        yield from ("--seccomp", str(SECCOMP_FD))
    yield "--clearenv"
    for name, value in (*spec.env.items(), *spec.secret_env.items()):
        yield from ("--setenv", name, value)
    yield from ("--proc", "/proc", "--dev", "/dev")
    for device in host.copies.devices:
        yield from ("--dev-bind", host.copies.of(device), device)
    for path in host.masked:
        yield from ("--ro-bind", "/dev/null", path)
    yield from _hidden(host, "/proc/")
    # Memory too, and invisible to a watchdog that adds up processes: bounded, and counted by it.
    size = str(max(16, spec.limits.memory_mb // 2) * _MIB)
    yield from ("--size", size, "--perms", "1777", "--tmpfs", "/dev/shm")  # noqa: S108  (inside the sandbox)
    yield from ("--size", size, "--perms", "1777", "--tmpfs", "/tmp")  # noqa: S108  (inside the sandbox)
    # After the private /tmp, so that what the operator adds below it (`sandbox.extra_ro_binds`) is seen.
    yield from _bind_options(host.binds)
    for target, path in host.links:
        yield from ("--symlink", target, path)
    for device in spec.devices:
        yield from ("--dev-bind", host.copies.of(device), device)
    yield from _bind_options(
        (
            Bind(spec.paths.work, JOB_VIEW.work, writable=True),
            Bind(spec.paths.output, JOB_VIEW.output, writable=True),
            Bind(spec.paths.input, JOB_VIEW.input),
        )
    )
    yield from _bind_options(spec.binds)
    if any(bind.target == "/sys" for bind in spec.binds):
        yield from _hidden(host, "/sys/")
    if spec.secret_files:
        yield from ("--size", str(_SECRETS_BYTES), "--perms", "0500", "--tmpfs", SECRETS)
        for number, name in enumerate(spec.secret_files):
            yield from ("--perms", "0400", "--file", str(SECRET_FILES_FD + number), f"{SECRETS}/{name}")
        yield from ("--remount-ro", SECRETS)
    # /proc/sys asks for the user alone, no capability: under a daemon of root, a job could set core_pattern.
    # The root and /dev are memory without a bound of their own.
    for path in ("/proc", "/dev", "/"):
        yield from ("--remount-ro", path)
    yield from ("--chdir", JOB_VIEW.work)


def _bind_options(binds: Iterable[Bind]) -> Iterator[str]:
    for bind in binds:
        yield from ("--bind" if bind.writable else "--ro-bind", str(bind.source), bind.target)


def _hidden(host: HostTools, below: str) -> Iterator[str]:
    for path in host.masked_folders:
        if path.startswith(below):
            yield from ("--size", "4096", "--perms", "0555", "--tmpfs", path, "--remount-ro", path)


def _unlocked(spec: RunSpec, host: HostTools) -> Iterator[str]:
    """Close the outer lock before bwrap where `--block-fd`, which closes it otherwise, has another use."""
    if spec.egress:
        yield from (host.sh, "-c", _WITHOUT_LOCK, "sh")


# Without a sandbox nothing but a process of ours outlives the daemon and sees the exit code: a shell records it.
# The command does not get the status file; it keeps the inner lock, so the run is alive for as long as it is.
_RECORD = (
    f"printf '{{\"child-pid\": %d}}\\n' $$ >&{STATUS_FD}; "
    f'"$@" {STATUS_FD}>&- {LOCK_FD}>&-; code=$?; '
    f"printf '{{\"exit-code\": %d}}\\n' $code >&{STATUS_FD}; exit $code"
)


def _unsandboxed(spec: RunSpec, host: HostTools) -> Iterator[str]:
    yield from (host.env, f"--chdir={spec.paths.work}")
    yield from (host.setpriv, "--no-new-privs", "--pdeathsig", "KILL", "--")
    yield from (host.sh, "-c", _RECORD, "sh", *spec.argv)
