"""Starting the daemon's process: configuration, logging, host, lock; then the loop.

Exit codes: 0 asked to stop; 1 a defect; 2 the configuration is wrong; 3 this machine can't run jobs as configured;
4 another daemon works in the same state folder; 5 the journal is not this version's to take over.
"""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from fsm_miner import __version__
from fsm_miner.clock import SystemClock, SystemDice
from fsm_miner.config import Config, ConfigError, Secret, load_config, resolve_secret, warnings_of
from fsm_miner.daemon import Daemon, LoopFailed
from fsm_miner.delivery import timestamp
from fsm_miner.fault_points.points import FaultPoints
from fsm_miner.fault_points.ports import FaultyPorts
from fsm_miner.fault_points.spec import VARIABLE, FaultSpecError, take_spec
from fsm_miner.fault_points.system import watch_system
from fsm_miner.instance import AlreadyRunning, Instance
from fsm_miner.log import NodeLog, configure_logging
from fsm_miner.loop import run
from fsm_miner.notify import ServiceManager, take_service_manager
from fsm_miner.offload import ready_threads
from fsm_miner.redaction import Redactor
from fsm_miner.site.host import host_tools
from fsm_miner.takeover import ReadingDiffers
from journal.port import JournalError
from journal.schema import SchemaTooNew
from runners.host import HostProblems

__all__ = [
    "EXIT_ALREADY_RUNNING",
    "EXIT_CONFIG",
    "EXIT_DEFECT",
    "EXIT_HOST",
    "EXIT_JOURNAL",
    "run_daemon",
]

EXIT_DEFECT = 1
EXIT_CONFIG = 2
EXIT_HOST = 3
EXIT_ALREADY_RUNNING = 4
EXIT_JOURNAL = 5
# A daemon that had to begin anew this soon waits before the next time: a disk that rots needs no haste.
_SHORT_LIFE_S = 60.0
_PAUSE_S = 5.0
# Large artifacts are hashed and large folders removed by threads, and every running job is watched by one now and
# then: those must not wait for these.
_THREADS = 16


def run_daemon(config_path: Path) -> int:
    """Run the daemon in this process; return its exit code."""
    # Until the loop takes them: a drain must not kill who just starts.
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    service = take_service_manager(os.environ, os.getpid())
    try:
        fault = take_spec(os.environ)
        points = None if fault is None else FaultPoints(fault)
        config = load_config(config_path)
        token = resolve_secret(config.coordinator.auth_token, os.environ)
    except (ConfigError, FaultSpecError) as error:
        print(error, file=sys.stderr)  # noqa: T201 - there is no log yet
        return EXIT_CONFIG
    # The token lives in `token` from here on; children and /proc/<pid>/environ of theirs need not have it.
    if config.coordinator.auth_token.kind == "env":
        os.environ.pop(config.coordinator.auth_token.name, None)
    node_log = configure_logging(
        config.logging,
        config.node_id,
        Redactor([token]),
        stderr=sys.stderr,
        environ=os.environ,
        bridge=logging.getLogger(),
    )
    try:
        return _run(config, token, node_log, points, service)
    finally:
        node_log.close()


def _run(
    config: Config, token: Secret, node_log: NodeLog, points: FaultPoints | None, service: ServiceManager
) -> int:
    log = node_log.logger
    if points is not None:
        log.error(
            "fault_points_on",
            spec=str(points),
            problem=f"{VARIABLE} is set: this daemon is a test's, and may end itself; unset it, and restart",
        )
        watch_system(points, config.workspace.root)
    for warning in warnings_of(config):
        log.warning("dangerous_configuration", problem=warning)
    host = host_tools(config, config.state_dir / "copies")
    if isinstance(host, HostProblems):
        for problem in host.problems:
            log.error("host_unfit", problem=problem)
        return EXIT_HOST
    try:
        started_at = timestamp(SystemClock().now_ns())
        instance = Instance(config.state_dir, version=__version__, started_at=started_at)
    except AlreadyRunning as error:
        log.error("already_running", problem=str(error))  # noqa: TRY400 - a sentence, not a trace
        return EXIT_ALREADY_RUNNING
    except OSError as error:
        log.error("state_folder_unusable", problem=f"{config.state_dir}: {error.strerror}")  # noqa: TRY400
        return EXIT_HOST

    async def life() -> bool:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, node_log.reopen)
        loop.set_default_executor(ready_threads(_THREADS))
        daemon = Daemon(
            config,
            token,
            host,
            instance,
            clock=SystemClock(),
            dice=SystemDice(),
            log=log,
            log_state=node_log,
            ports=None if points is None else FaultyPorts(points),
            service=service,
        )
        return await daemon.run()

    try:
        _live(life)
    except (ReadingDiffers, SchemaTooNew) as error:
        log.error("journal_refused", problem=str(error))  # noqa: TRY400 - a sentence, not a trace
        return EXIT_JOURNAL
    except LoopFailed:
        instance.close()
        return EXIT_DEFECT
    except (JournalError, OSError) as error:
        log.exception("cannot_start", problem=str(error), exc_info=error)
        return EXIT_HOST
    instance.close()
    return 0


def _live(life: Callable[[], Coroutine[Any, Any, bool]]) -> None:
    """Live until a life ends for good: one that found its journal damaged is followed by one that salvages it."""
    clock = SystemClock()
    while True:
        began_ns = clock.boot_ns()
        if not run(life()):
            return
        if clock.boot_ns() - began_ns < _SHORT_LIFE_S * 1e9:
            run(clock.sleep(_PAUSE_S))
