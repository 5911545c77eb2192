"""Checks of the machine: sandbox, limits, GPUs, memory and CPUs, the health page's address, the clock."""

import asyncio
import os
import secrets
import shutil
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from fsm_miner.cli.finding import Finding, Lines, ok, problem, warning
from fsm_miner.cli.probe import existing
from fsm_miner.cli.running import NO_PAGE
from fsm_miner.config import Config
from fsm_miner.instance import find_running
from fsm_miner.probe import GpuReading, HostProbe, ThreadedInventory, gpu_sources
from fsm_miner.site.cgroups import Found, find_parent, installed_parent
from fsm_miner.site.host import host_tools
from runners.cgroup_lacks import lacks
from runners.host import HostProblems, HostTools

__all__ = [
    "cgroup_findings",
    "check_cgroups",
    "check_clock",
    "check_gpus",
    "check_listen",
    "check_resources",
    "check_sandbox",
    "gpu_findings",
    "sandbox_findings",
]

_EARLIEST = datetime(2025, 1, 1, tzinfo=UTC)


def check_sandbox(config: Config | None, lines: Lines) -> Iterator[Finding]:
    """Check the programs that start jobs, and build a sandbox once."""
    host = _host(config)
    yield from sandbox_findings(host, lines)
    if isinstance(host, HostTools) and host.bwrap is not None:
        unseen = "the limit on core files in the daemon's unit (LimitCORE=1)"
        if os.geteuid() == 0:
            unseen += ", nor whether files that jobs hide are counted (kernel.yama.ptrace_scope), unless it is root's"
        yield ok(f"not judged here: {unseen}; /healthz says it (isolation_lacks)", "sandbox.backend")


def _host(config: Config | None) -> HostTools | HostProblems:
    """Return what a daemon of the configuration would find, but for what its unit alone decides. Leaves nothing."""
    tried = None if config is None or os.geteuid() != 0 else _trial(config.state_dir)
    try:
        host = host_tools(config, tried)
    finally:
        if tried is not None:
            shutil.rmtree(tried, ignore_errors=True)
    if not isinstance(host, HostTools):
        return host
    if config is not None and host.copies.lack is not None:
        lack = host.copies.lack.replace(str(tried), str(config.state_dir / "copies"))
        host = replace(host, copies=replace(host.copies, lack=lack))
    return replace(host, cores_max=None)


def _trial(state_dir: Path) -> Path | None:
    """Return a folder to try root's copies in, beside where they would be; None where the daemon is not root's."""
    there = existing(state_dir)
    return there / f".copies-{secrets.token_hex(8)}" if there.stat().st_uid == 0 else None


def sandbox_findings(host: HostTools | HostProblems, lines: Lines) -> Iterator[Finding]:
    """Yield what the probe of the host means."""
    if isinstance(host, HostProblems):
        for text in host.problems:
            yield problem(text, "sandbox.backend", lines)
        return
    yield ok(f"{host.prlimit} and the other programs that start jobs: there")
    if host.bwrap is not None:
        version = ".".join(map(str, host.bwrap_version))
        yield ok(
            f"{host.copies.program or host.bwrap}: version {version} builds sandboxes here (user namespaces work)",
            "sandbox.backend",
        )
        if host.seccomp:
            yield ok("jobs' system calls are filtered (seccomp)", "sandbox.backend")
        for lack in host.lacks:
            yield warning(f"sandbox: {lack.tag}: {lack.meaning}", "sandbox.backend", lines)


def check_cgroups(config: Config | None, lines: Lines) -> Iterator[Finding]:
    """Look for the place of the jobs' cgroups: that of the daemon that runs, or of one that its unit would start."""
    try:
        running = None if config is None else find_running(config.state_dir)
    except OSError:
        running = None  # the folder is not this user's to look into; that is said elsewhere
    if running is None:
        return cgroup_findings(installed_parent(), lines)
    return cgroup_findings(find_parent(Path(f"/proc/{running.pid}/cgroup")), lines)


def cgroup_findings(found: Found, lines: Lines) -> Iterator[Finding]:
    """Yield which limits the kernel holds, and each that is not to be had here."""
    parent, absent = found
    if parent is None:
        yield warning(f"limits: {absent}", None, lines)
        return
    yield ok(f"limits: the kernel holds each job to its own, in a cgroup below {parent}")
    for lack in lacks(parent):
        yield warning(f"limits: {lack.tag}: {lack.meaning}", None, lines)


def check_gpus(config: Config | None, lines: Lines) -> Iterator[Finding]:
    """Ask the drivers, in bounded time."""
    slots = 1 if config is None else config.resources.max_concurrent_gpu
    return gpu_findings(asyncio.run(ThreadedInventory(gpu_sources()).read()), slots, lines)


def gpu_findings(reading: GpuReading, slots: int, lines: Lines) -> Iterator[Finding]:
    """Yield what a reading of the GPUs means. Without a slot for GPU jobs, nothing of it is a problem."""
    key = "resources.max_concurrent_gpu"
    for text in reading.problems:
        yield problem(text, key, lines) if slots else warning(text, key, lines)
    for gpu in reading.gpus:
        driver = f", driver {gpu.driver}" if gpu.driver else ""
        yield ok(f"GPU {gpu.index}: {gpu.vendor} {gpu.name}, {gpu.vram_mb} MiB{driver}", key)
    if not reading.gpus and not reading.problems:
        yield ok("no GPU: jobs that want one are given back (E_NOGPU)", key)


def check_resources(config: Config, lines: Lines) -> Iterator[Finding]:
    """Compare what jobs may use with what the machine has."""
    try:
        facts = HostProbe(Path("/")).read()
    except OSError as error:
        yield problem(str(error), None, lines)
        return
    resources = config.resources
    yield ok(f"{facts.cores} CPUs, {facts.memory_mb} MiB of memory")
    if resources.max_concurrent_cpu > facts.cores:
        yield warning(
            f"{resources.max_concurrent_cpu} jobs at a time on {facts.cores} CPUs",
            "resources.max_concurrent_cpu",
            lines,
        )
    if resources.mem_soft_mb > facts.memory_mb:
        yield warning(
            f"a job may use {resources.mem_soft_mb} MiB of memory, the machine has {facts.memory_mb}",
            "resources.mem_soft_mb",
            lines,
        )


def check_listen(config: Config, lines: Lines) -> Iterator[Finding]:
    """Check that the health page can have its address, unless a daemon of this configuration has it already."""
    listen, key = config.health.listen, "health.listen"
    if listen is None:
        yield ok("off", key)
        return
    try:
        running = find_running(config.state_dir)
    except OSError:
        return  # the folder is not this user's to look into; that is said elsewhere
    if running is not None:
        who = f"the daemon runs (process {running.pid})"
        if running.health_url is None:
            yield problem(f"{who}, and {NO_PAGE}", key, lines)
        else:
            yield ok(f"{who}: {running.health_url}", key)
        return
    family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as page:
            page.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            page.bind((listen.host, listen.port))
    except OSError as error:
        yield problem(f"{listen}: {error.strerror}; the daemon would run without a status page", key, lines)
    else:
        yield ok(f"{listen}: free", key)


def check_clock(lines: Lines, now_s: float | None = None) -> Finding:
    """Check that the clock is not at its birth: then no certificate would be valid."""
    now = datetime.fromtimestamp(time.time() if now_s is None else now_s, UTC)
    text = f"the clock says {now:%Y-%m-%d %H:%M} UTC"
    return problem(f"{text}; set it: timedatectl set-ntp true", None, lines) if now < _EARLIEST else ok(text)
