"""`fsm-miner drain`: let the node finish what it has, and take nothing new."""

import math
import os
import signal
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Annotated, Any

import typer
from rich.markup import escape

from fsm_miner.cli.health_page import ASKED_S, NoAnswer, jobs_of
from fsm_miner.cli.options import ConfigOption, seconds, settings
from fsm_miner.cli.outcome import ExitCode, Refused
from fsm_miner.cli.output import Screen, clean, progress_console
from fsm_miner.cli.running import NO_PAGE, catches, page_of, the_running, user_of
from fsm_miner.config import Config
from fsm_miner.instance import Running, find_running

HELP = """Finish the jobs that are here, and pull no new ones.

Tells the running daemon, then waits until it has no unfinished job. The daemon stays up, idle, and keeps
sending heartbeats (as draining); it pulls again when it is restarted, or after `fsm-miner drain --off`.

An upgrade or a restart needs no drain: jobs go on while the daemon is away. Drain before the machine itself
goes away. Afterwards: systemctl stop aitbc-miner
"""
EXAMPLES = """\
  fsm-miner drain                        wait for as long as it takes
  fsm-miner drain --timeout 3600 && systemctl poweroff
  fsm-miner drain --no-wait              only tell it; `fsm-miner status` shows the rest
  fsm-miner drain --off                  go on pulling"""
EXIT_CODES = """\
  0  drained (--no-wait: told; --off: it pulls again)
  1  no daemon runs, it ended meanwhile, it has no status page that could tell, or --timeout ran out (it goes
     on draining)
  2  wrong usage or configuration
  3  this user may not: use sudo"""

_POLL_S = 0.25
_TOLD_S = 15.0
_SILENT_S = 30.0
_ASKED_LEAST_S = 1.0


def command(
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout",
            metavar="S",
            parser=seconds,
            help="Wait so many seconds at most. [default: no limit]",
            show_default=False,
        ),
    ] = None,
    off: Annotated[bool, typer.Option("--off", help="Take a drain back: pull again.")] = False,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Tell the daemon, and don't wait for its jobs.")
    ] = False,
    config: ConfigOption = None,
) -> int:
    """Drain the daemon; return the exit code."""
    loaded = settings(config)
    running = the_running(loaded)
    watch = Watch(loaded, running, time.monotonic, time.sleep)
    watch.tell(signal.SIGUSR2 if off else signal.SIGUSR1)
    screen = Screen()
    if off:
        if not no_wait and running.health_url is None:
            raise Refused(ExitCode.NO, f"told, but whether it pulls again can't be seen: {NO_PAGE}")
        if not no_wait:
            watch.until(lambda page: not page.get("draining"), _TOLD_S)
        screen.say("the node pulls again")
    elif no_wait:
        screen.say(
            "told: the node finishes its jobs and pulls no more; `fsm-miner status` shows how far it is"
        )
    else:
        if running.health_url is None:
            # Its journal can't decide: a pull that is under way may still bring a job.
            raise Refused(
                ExitCode.NO, f"told, but when it is drained can't be seen: {NO_PAGE}; see `fsm-miner jobs`"
            )
        watch.until(drained, timeout)
        screen.say(
            "drained: no job is left; the daemon is idle. Next: systemctl stop aitbc-miner, or fsm-miner drain --off"
        )
    return ExitCode.OK


def drained(page: dict[str, Any]) -> bool:
    """Return whether a drain has come to its end.

    A pull that was under way when the drain began may still bring a job: only when the pull loop itself says
    that it is held back, or can't pull for want of a registration, is none to come.
    """
    no_pull = page.get("pull_held_back") is not None or not page.get("registered")
    return bool(page.get("draining")) and no_pull and not jobs_of(page)


class Watch:
    """Tells a running daemon, and watches what it makes of it."""

    def __init__(
        self,
        config: Config,
        running: Running,
        monotonic: Callable[[], float],
        sleep: Callable[[float], None],
        kill: Callable[[int, int], None] = os.kill,
    ) -> None:
        self._config = config
        self._running = running
        self._monotonic = monotonic
        self._sleep = sleep
        self._kill = kill

    def tell(self, number: signal.Signals) -> None:
        """Send the signal, once the daemon listens to it.

        Raises:
            Refused: it is gone, does not listen, or belongs to another user than this one or the lock.

        """
        pid = self._running.pid
        deadline_s = self._monotonic() + _TOLD_S
        while not catches(pid, number):
            self._still_there()
            if self._monotonic() >= deadline_s:
                raise Refused(
                    ExitCode.NO,
                    f"the daemon (process {pid}) does not listen to {number.name}; it may still be starting",
                )
            self._sleep(_POLL_S)
        if user_of(pid) != self._running.user:
            raise Refused(
                ExitCode.HOST,
                f"{self._config.state_dir}/daemon.lock names process {pid}, which is not of the user that the file "
                f"belongs to: not told; systemctl kill --kill-whom=main -s {number.name} aitbc-miner does it",
            )
        try:
            self._kill(pid, number)
        except ProcessLookupError:
            raise Refused(ExitCode.NO, f"the daemon (process {pid}) has just ended") from None
        except PermissionError:
            raise Refused(
                ExitCode.HOST, f"the daemon (process {pid}) belongs to another user: sudo fsm-miner drain"
            ) from None

    def until(self, reached: Callable[[dict[str, Any]], bool], timeout_s: float | None) -> None:
        """Ask the status page until `reached` says yes.

        Raises:
            Refused: the time ran out, the daemon ended, or its page is silent.

        """
        answered_s = self._monotonic()
        deadline_s = math.inf if timeout_s is None else answered_s + timeout_s
        console = progress_console()
        live: AbstractContextManager[Any] = nullcontext() if console is None else console.status("asking")
        left = "its jobs are unknown"
        with live as shown:
            while True:
                running = self._still_there()
                left_s = deadline_s - self._monotonic()
                try:
                    page = page_of(running, min(ASKED_S, max(_ASKED_LEAST_S, left_s)))
                except NoAnswer as error:
                    if self._monotonic() - answered_s > _SILENT_S:
                        raise Refused(ExitCode.NO, str(error)) from None
                else:
                    answered_s = self._monotonic()
                    if reached(page):
                        return
                    left = _left(page)
                if timeout_s is not None and self._monotonic() >= deadline_s:
                    raise Refused(ExitCode.NO, f"not reached within {timeout_s:g} s: {left}")
                if shown is not None:
                    shown.update(escape(clean(left)))
                self._sleep(_POLL_S)

    def _still_there(self) -> Running:
        running = find_running(self._config.state_dir)
        if running is None or running.pid != self._running.pid:
            raise Refused(ExitCode.NO, f"the daemon (process {self._running.pid}) has ended meanwhile")
        return running


def _left(page: dict[str, Any]) -> str:
    """Return what a daemon still has to do, in words."""
    jobs = jobs_of(page)
    if not page.get("draining"):
        return "the daemon has not taken notice yet"
    if not jobs:
        return "no job is left, but a pull is under way, and may bring one"
    named = ", ".join(f"{job.get('job_id')} {job.get('state')}" for job in jobs[:3])
    return f"{len(jobs)} unfinished: {named}" + (", …" if len(jobs) > 3 else "")
