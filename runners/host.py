"""What this machine offers for running jobs, probed once at start: programs, system folders, the sandbox's abilities.

The facts are data, so that the assembly of a sandbox is a pure function of them.
"""

import errno
import os
import re
import resource
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from runners.descriptors import can_look
from runners.lack import Lack
from runners.own_copies import ORIGINALS, Copies, prepare_copies
from runners.run import Bind
from runners.seccomp import machine_known, seccomp_filter
from runners.seccomp_calls import SOCKET_FAMILIES
from runners.system_view import FOLDERS_MASKED, PROC_MASKED, system_folders

__all__ = ["Backend", "HostProblems", "HostTools", "parse_version", "probe_host"]

Backend = Literal["bwrap", "none"]

_TRUSTED_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_PACKAGES = {
    "sh": "dash",
    "choom": "util-linux",
    "nice": "coreutils",
    "ionice": "util-linux",
    "prlimit": "util-linux",
    "timeout": "coreutils",
    "env": "coreutils",
    "setpriv": "util-linux",
}
_VERSION_MIN = (0, 8)  # Debian 12; --size, --disable-userns and the namespaces in the status are there
_PROBE_TIMEOUT_S = 10


@dataclass(frozen=True, slots=True)
class HostTools:
    """Absolute paths of the chain's programs, and facts about the machine.

    `binds` are system folders, read-only; `links` are (target, path) of symbolic links such as /bin -> usr/bin.
    `masked` are files of /proc that jobs can't read, `masked_folders` folders of /proc and /sys that they find empty.
    `base_nice` is this process's own niceness, `base_oom` its oom_score_adj: the chain adds only what is missing.
    `processes_max` is this user's hard limit on processes, None if there is none; `cores_max` is that on core files,
    in bytes. `sees_hidden`: whether what jobs hide from /proc can be counted. `copies`: see `Copies`. `seccomp`
    is the filter on jobs' system calls; empty without a sandbox, and where none is known for `machine`
    (`runners.seccomp`); `seccomp_uncounted` is that of runs without a cgroup.
    """

    sh: str
    choom: str
    nice: str
    ionice: str
    prlimit: str
    timeout: str
    env: str
    setpriv: str
    bwrap: str | None
    bwrap_version: tuple[int, ...]
    binds: tuple[Bind, ...]
    links: tuple[tuple[str, str], ...]
    masked: tuple[str, ...] = ()
    masked_folders: tuple[str, ...] = ()
    base_nice: int = 0
    base_oom: int = 0
    processes_max: int | None = None
    cores_max: int | None = None
    sees_hidden: bool = True
    copies: Copies = ORIGINALS
    machine: str = ""
    seccomp: bytes = field(default=b"", repr=False)
    seccomp_uncounted: bytes = field(default=b"", repr=False)

    @property
    def backend(self) -> Backend:
        """Whether runs are sandboxed. Without bubblewrap only where the operator asked for it."""
        return "none" if self.bwrap is None else "bwrap"

    @property
    def lacks(self) -> tuple[Lack, ...]:
        """What of the sandbox can't be had here."""
        return tuple(self._lacks())

    def _lacks(self) -> Iterator[Lack]:
        if self.bwrap is None:
            yield Lack(
                "sandbox-none",
                "sandbox.backend is none: jobs see and can change whatever the daemon's user can",
            )
            return
        if not self.seccomp:
            yield Lack(
                "no-seccomp",
                f"no filter of system calls is known for {self.machine} (only for x86_64 and aarch64): jobs may ask "
                "the kernel for whatever any user may",
            )
        if self.cores_max == 0:
            yield Lack(
                "no-core-limit",
                "the limit on core files is 0 and can't be raised to 1 (LimitCORE=1 in the daemon's unit): the memory "
                "of a job that crashes goes to the program that kernel.core_pattern names, if it names one",
            )
        if not self.sees_hidden:
            yield Lack(
                "no-hidden-files",
                "kernel.yama.ptrace_scope is 3, or a filter refuses pidfd_getfd: files that jobs hide are not counted",
            )
        if self.copies.lack is not None:
            yield Lack("no-own-copies", self.copies.lack)


@dataclass(frozen=True, slots=True)
class HostProblems:
    """Why this machine cannot run jobs, each as a sentence that says what to do."""

    problems: tuple[str, ...]


def _families() -> list[int]:
    """Return which of the families of sockets that jobs may have this kernel has: IPv6 may be turned off."""
    found: list[int] = []
    for family in SOCKET_FAMILIES:
        try:
            socket.socket(family, socket.SOCK_DGRAM).close()
        except OSError as error:
            if error.errno == errno.EAFNOSUPPORT:
                continue
        found.append(family)
    return found


def parse_version(text: str) -> tuple[int, ...]:
    """Read `bubblewrap 0.8.0`; () where there is no version in it."""
    match = re.search(r"(\d{1,6})\.(\d{1,6})(?:\.(\d{1,6}))?", text)
    return tuple(int(part) for part in match.groups() if part is not None) if match else ()


def probe_host(
    backend: Backend = "bwrap",
    *,
    extra_binds: Sequence[Bind] = (),
    search_path: str = _TRUSTED_PATH,
    machine: str | None = None,
    copies: Path | None = None,
) -> HostTools | HostProblems:
    """Find the programs and try the sandbox once. Blocks for some milliseconds: call it at start.

    `backend="none"` is for an operator who wants no sandbox and says so; it is never chosen by itself.
    `machine` is the processor's architecture, as uname(2) names it; None: this one's. `copies`: see `prepare_copies`.
    """
    found = {name: shutil.which(name, path=search_path) for name in _PACKAGES}
    problems = [
        f"{name}: not found in {search_path}; install it: apt install {_PACKAGES[name]}"
        for name, path in found.items()
        if path is None
    ]
    binds, links = system_folders()
    tools = {name: path for name, path in found.items() if path is not None}
    if problems:
        return HostProblems(tuple(problems))
    host = HostTools(
        sh=tools["sh"],
        choom=tools["choom"],
        nice=tools["nice"],
        ionice=tools["ionice"],
        prlimit=tools["prlimit"],
        timeout=tools["timeout"],
        env=tools["env"],
        setpriv=tools["setpriv"],
        bwrap=None,
        bwrap_version=(),
        binds=binds + tuple(extra_binds),
        links=links,
        masked=tuple(path for path in PROC_MASKED if Path(path).exists()),
        masked_folders=tuple(path for path in FOLDERS_MASKED if Path(path).is_dir()),
        base_nice=os.getpriority(os.PRIO_PROCESS, 0),
        base_oom=int(Path("/proc/self/oom_score_adj").read_text()),
        processes_max=_hard_limit(resource.RLIMIT_NPROC),
        cores_max=_hard_limit(resource.RLIMIT_CORE),
        sees_hidden=can_look(),
    )
    return (
        host if backend == "none" else _with_bwrap(host, search_path, machine or os.uname().machine, copies)
    )


def _with_bwrap(
    host: HostTools, search_path: str, machine: str, folder: Path | None
) -> HostTools | HostProblems:
    bwrap = shutil.which("bwrap", path=search_path)
    if bwrap is None:
        return HostProblems(
            (f"bwrap: not found in {search_path}; jobs need it as their sandbox: apt install bubblewrap",)
        )
    version = parse_version(_run([bwrap, "--version"])[1])
    if version < _VERSION_MIN:
        have = ".".join(map(str, version)) or "unknown"
        return HostProblems((f"{bwrap}: version {have}, 0.8 or newer is needed: apt install bubblewrap",))
    copies = prepare_copies(folder, bwrap)
    bwrap = copies.of(bwrap)
    families = _families()
    seccomp = seccomp_filter(machine, families=families) if machine_known(machine) else b""
    tried = [
        bwrap,
        "--unshare-all",
        "--unshare-user",
        "--unshare-cgroup",
        "--disable-userns",
        "--die-with-parent",
    ]
    tried += ["--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev"]
    for path in host.masked:
        tried += ["--ro-bind", "/dev/null", path]
    tried += ["--seccomp", "0"] if seccomp else []
    code, output = _run([*tried, "--", "/bin/true"], seccomp)
    if code != 0 and seccomp and _run([*tried[:-2], "--", "/bin/true"])[0] == 0:
        why = output.strip()[:500] or f"exit code {code}"
        advice = "the kernel has no seccomp filters (CONFIG_SECCOMP_FILTER), or a container refuses them: use Debian's"
        return HostProblems((f"{bwrap}: cannot filter system calls: {why}; {advice}",))
    if code != 0:
        return HostProblems(
            (
                (
                    f"{bwrap}: cannot build a sandbox: {output.strip()[:500] or f'exit code {code}'}. "
                    "Allow user namespaces: sysctl user.max_user_namespaces (not 0), "
                    "kernel.unprivileged_userns_clone=1 and "
                    "kernel.apparmor_restrict_unprivileged_userns=0 where they exist; in a container, "
                    "have it allow them and an unmasked /proc"
                ),
            )
        )
    uncounted = seccomp_filter(machine, counted=False, families=families) if seccomp else b""
    return replace(
        host,
        bwrap=bwrap,
        bwrap_version=version,
        machine=machine,
        seccomp=seccomp,
        seccomp_uncounted=uncounted,
        copies=copies,
    )


def _hard_limit(which: int) -> int | None:
    hard = resource.getrlimit(which)[1]
    return None if hard == resource.RLIM_INFINITY else hard


def _run(argv: list[str], stdin: bytes = b"") -> tuple[int, str]:
    try:
        done = subprocess.run(
            argv,
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={},
            timeout=_PROBE_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return 255, str(error)
    return done.returncode, done.stdout[:4096].decode(errors="replace")
