"""Finding the daemon of a configuration."""

from pathlib import Path
from typing import Any

from fsm_miner.cli.health_page import ASKED_S, NoAnswer, health
from fsm_miner.cli.outcome import ExitCode, Refused
from fsm_miner.config import Config
from fsm_miner.instance import Running, find_running

__all__ = ["NOT_RUNNING", "NO_PAGE", "catches", "listen_url", "page_of", "the_running", "user_of"]

NOT_RUNNING = (
    "no daemon runs in this state folder; start it, under systemd for example: systemctl start aitbc-miner"
)
NO_PAGE = (
    "it has no status page: health.listen is off, or its address was taken (health_unavailable in the log), "
    "or it is just starting"
)
"""Of a daemon whose lock names no page. Whoever answers at `health.listen` is then another one."""


def the_running(config: Config) -> Running:
    """Return the daemon that works in the configuration's state folder.

    Raises:
        Refused: there is none, or this user may not look.

    """
    try:
        running = find_running(config.state_dir)
    except OSError as error:
        raise Refused(
            ExitCode.HOST,
            f"{config.state_dir}: {error.strerror}: run this as the daemon's user, or with sudo",
        ) from None
    if running is None:
        raise Refused(ExitCode.NO, f"{config.state_dir}: {NOT_RUNNING}")
    return running


def page_of(running: Running, timeout_s: float = ASKED_S) -> dict[str, Any]:
    """Return the status page of this daemon: asked where its lock says, nowhere else.

    Raises:
        NoAnswer: it has none, or that does not answer.

    """
    if running.health_url is None:
        raise NoAnswer(NO_PAGE)
    return health(running.health_url, timeout_s)


def listen_url(config: Config) -> str | None:
    """Return where the configuration puts the status page; None if it is off, or on a port nobody knows."""
    listen = config.health.listen
    return None if listen is None or listen.port == 0 else f"http://{listen}"


def catches(pid: int, signal_number: int, proc: Path = Path("/proc")) -> bool:
    """Return whether the process has a handler for the signal (proc_pid_status(5), SigCgt).

    A daemon that is just starting has none yet, and the signal would end it.
    """
    mask = _status(proc / str(pid), "SigCgt:")
    return mask is not None and bool(int(mask, 16) >> (signal_number - 1) & 1)


def user_of(pid: int, proc: Path = Path("/proc")) -> int | None:
    """Return the process's user id, None if there is no such process."""
    user = _status(proc / str(pid), "Uid:")
    return None if user is None else int(user)


def _status(process: Path, name: str) -> str | None:
    try:
        lines = (process / "status").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    return next((line.split()[1] for line in lines if line.startswith(name)), None)
