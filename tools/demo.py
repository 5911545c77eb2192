"""Run real jobs through a coordinator and a daemon of their own, live in the terminal. See `--help`."""

import argparse
import secrets
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote

from demo_clip import DURATION_S, make_clip
from demo_crash import Blow, journal_problems, strike
from demo_jobs import SURVIVOR, DemoJob, Finding, Source, demo_jobs
from demo_node import LocalNode, Places, Trouble, write_config
from demo_screen import Row, Screen, outcome_table, plain
from rich.console import Console

from fsm_miner.instance import find_running

ROOT = Path(__file__).resolve().parent.parent
MARKER = ".fsm-miner-demo"
TOOLS = {"ffmpeg": "ffmpeg", "ffprobe": "ffmpeg", "bwrap": "bubblewrap", "prlimit": "util-linux"}
FINAL = frozenset({"done", "failed", "cancelled"})
EXIT_SURPRISE, EXIT_UNABLE, EXIT_INTERRUPTED = 1, 2, 130
LIMIT_S = 240.0
POLL_S = 0.2
DOWN_S = 1.0
FOUND_CHARS_MAX = 90

HELP = """Run real jobs through a coordinator and a daemon of their own, live in the terminal: transcodes, Python
tasks, refusals, a time-out, and a daemon that is killed in the middle of a job and goes on where it was.

Exit status: 0 everything came out as expected, 1 something did not, 2 it could not begin."""


@dataclass(slots=True)
class Demo:
    """One run of the demo."""

    node: LocalNode
    screen: Screen
    rows: list[Row]
    views: dict[str, dict[str, Any]] = field(default_factory=dict)
    problems: dict[str, list[str]] = field(default_factory=dict)
    blow: Blow | None = None
    new_daemon: int = 0

    def run(self) -> None:
        """Hand in all jobs and watch them until they are over; kill the daemon on the way."""
        for row in self.rows:
            self.node.admin("POST", "/admin/jobs", json={"job_id": row.job.name, **row.job.manifest})
        end = time.monotonic() + LIMIT_S
        while not all(row.final for row in self.rows):
            if self.node.miner is None or self.node.miner.poll() is not None:
                raise Trouble("the daemon ended by itself")
            if time.monotonic() > end:
                raise Trouble(f"not everything is over after {LIMIT_S:g} s")
            self.look()
            if self.blow is None and self._in_the_middle():
                self._kill_and_restart()
            time.sleep(POLL_S)
        self._settle()

    def look(self) -> None:
        """Bring the rows up to date and show them."""
        records = self.node.records()
        news: list[tuple[Row, list[str]]] = []
        for row in self.rows:
            states = row.see_records([r for r in records if r.job_id == row.job.name])
            if not row.final:
                view = self.views[row.job.name] = self.node.admin("GET", f"/admin/jobs/{quote(row.job.name)}")
                row.see_progress(view["progress"])
                row.final = view["state"] in FINAL and row.state in {"DONE", "FAILED"}
                if row.final:
                    row.note = _outcome(view)[0]
            news.append((row, states))
        self.screen.update(news)

    def _in_the_middle(self) -> bool:
        """Whether the long job is well under way, and alone: what follows is about it."""
        row = next(row for row in self.rows if row.job.name == SURVIVOR)
        others = (other for other in self.rows if other is not row)
        return row.state == "RUNNING" and (row.pct or 0) > 0 and all(other.final for other in others)

    def _kill_and_restart(self) -> None:
        self.blow = strike(self.node, SURVIVOR)
        self.screen.say(f"kill -9: the daemon (process {self.blow.daemon_pid}) is dead")
        end = time.monotonic() + DOWN_S
        while time.monotonic() < end:
            self.look()
            time.sleep(POLL_S)
        self.screen.say(
            f"its job's ffmpeg (process {self.blow.program.pid}) {'works on' if self.blow.goes_on() else 'is gone'}"
        )
        self.node.start_miner()
        assert self.node.miner is not None
        self.new_daemon = self.node.miner.pid
        self.screen.say(f"a new daemon (process {self.new_daemon}) has taken over")
        if not self.blow.goes_on():
            self.problems[SURVIVOR] = [
                "its process was over before the new daemon was there; this machine may be too fast for the demo"
            ]

    def _settle(self) -> None:
        """Wait until the last record of each job, its delivery, is written; then nothing may be left running."""
        self.look()
        if left := self.node.living_runs():
            self.problems["(processes)"] = [
                f"still running: {', '.join(str(process.pid) for process in left)}"
            ]

    # The end.

    def judge(self) -> list[tuple[Row, str, bool, str]]:
        """Compare every outcome and result with what it must be; fill `problems`."""
        return [self._entry(row) for row in self.rows]

    def _entry(self, row: Row) -> tuple[Row, str, bool, str]:
        view = self.views.get(row.job.name, {})
        got, told = _outcome(view)
        problems = self.problems.setdefault(row.job.name, [])
        if got != row.job.expected:
            problems.append(f"expected {row.job.expected}, got {got}: {told}" if told else f"got {got}")
        elif row.job.check is not None:
            finding = self._checked(row.job)
            problems += finding.problems
            told = finding.summary
        if row.job.name == SURVIVOR and got == row.job.expected:
            if self.blow is None:
                problems.append("the daemon was never killed: the job was over too soon")
            else:
                problems += journal_problems(self.node.records(SURVIVOR), self.new_daemon, view)
                told = f"launched once, reattached, delivered once; {told}"
        return row, got, not problems, _cut("; ".join(problems) or told)

    def _checked(self, job: DemoJob) -> Finding:
        assert job.check is not None
        try:
            return job.check(lambda name: self.node.places.result(job.name, name))
        except (OSError, ValueError, KeyError, TypeError, subprocess.SubprocessError) as error:
            return Finding((f"the result can't be read: {error!r}",), "")


def _outcome(view: dict[str, Any]) -> tuple[str, str]:
    """Return what a job came to ("done", an error code, or its state), and what was said about it."""
    if not view or view["state"] not in FINAL:
        return "unfinished", ""
    last = view["outcomes"][-1] if view["outcomes"] else None
    if last is not None and last["kind"] == "fail":
        return plain(last["body"]["error_code"]), plain(last["body"]["error_msg"])
    return view["state"], plain(view["reason"] or "")


def _cut(text: str) -> str:
    return text if len(text) <= FOUND_CHARS_MAX else text[: FOUND_CHARS_MAX - 1].rstrip() + "…"


def _report(console: Console, demo: Demo) -> int:
    """Print the outcomes, where everything lies, and the replay of the killed job; return the exit status."""
    places = demo.node.places
    entries = demo.judge()
    console.print(outcome_table(entries))
    problems = {name: found for name, found in demo.problems.items() if found}
    for name, found in problems.items():
        for problem in found:
            console.print(f"{name}: {problem}", style="red", markup=False, highlight=False)
    console.print("Where it all lies:", style="bold")
    for what, path in (
        ("delivered files and logs", places.coordinator / "results"),
        ("the node's job folders", places.miner / "jobs"),
        ("the journal", places.journal),
        ("the logs of both", places.logs),
    ):
        console.print(f"  {what:<26}{_short(path)}", markup=False, highlight=False, soft_wrap=True)
    if not places.journal.exists():
        return EXIT_SURPRISE
    console.print()
    command = ["replay", SURVIVOR, "--config", str(places.config)]
    console.print(
        f"$ fsm-miner replay {SURVIVOR} --config {_short(places.config)}",
        style="bold",
        markup=False,
        soft_wrap=True,
    )
    console.file.flush()
    replayed = subprocess.run([sys.executable, "-P", "-m", "fsm_miner.cli", *command], check=False)
    if replayed.returncode != 0:
        console.print(f"the replay ended with status {replayed.returncode}", style="red")
        return EXIT_SURPRISE
    if problems:
        console.print(
            f"Not as expected: {', '.join(problems)}. Logs: {_short(places.logs)}", style="bold red"
        )
        return EXIT_SURPRISE
    console.print("Everything came out as expected.", style="bold green")
    return 0


def _prepare(folder: Path) -> None:
    """Make the folder anew; what is no folder of an earlier demo is not touched.

    Raises:
        Trouble: a tool is missing, or the folder is in use or not ours.

    """
    missing = sorted({package for tool, package in TOOLS.items() if shutil.which(tool) is None})
    if missing:
        raise Trouble(f"missing: {', '.join(missing)}; `make demo` installs what is needed, or: apt install")
    if folder.exists():
        if any(folder.iterdir()) and not (folder / MARKER).exists():
            raise Trouble(
                f"{folder}: is not empty, and not of an earlier demo; name another folder with --dir"
            )
        if (other := find_running(folder / "miner")) is not None:
            raise Trouble(f"{folder}: another demo runs there (its daemon is process {other.pid})")
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    (folder / MARKER).touch()


def _short(path: Path) -> Path:
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _play(console: Console, node: LocalNode, allowlist: Path, *, live: bool) -> int:
    clip = node.places.root / "clip.mp4"
    console.print(f"making a film of {DURATION_S} s with sound, and starting coordinator and daemon ...")
    make_clip(clip)
    base_url = node.start_coordinator()
    write_config(node.places, base_url, node_id="node-demo", allowlist=allowlist, tasks=ROOT / "tasks")
    node.start_miner()
    served = node.admin("PUT", "/files/clip.mp4", content=clip.read_bytes())
    rows = [Row(job) for job in demo_jobs(Source.of(clip, served["url"]))]
    with Screen(console, rows, live=live) as screen:
        demo = Demo(node, screen, rows)
        try:
            demo.run()
        except Trouble as trouble:
            demo.problems["(the demo)"] = [str(trouble)]
    return _report(console, demo)


def _interrupt(_number: int, _frame: Any) -> NoReturn:
    raise KeyboardInterrupt


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=HELP, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--dir", type=Path, default=ROOT / "build" / "demo", help="made anew and kept (default: build/demo)"
    )
    parser.add_argument(
        "--allowlist",
        type=Path,
        default=ROOT / "allowlist.d",
        help="rules for commands (default: allowlist.d)",
    )
    parser.add_argument(
        "--plain", action="store_true", help="lines instead of a live table, as without a terminal"
    )
    options = parser.parse_args()
    console = Console()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    folder: Path = options.dir.absolute()
    node = LocalNode(Places(folder), secrets.token_urlsafe(24))
    try:
        _prepare(folder)
        return _play(
            console, node, options.allowlist.absolute(), live=console.is_terminal and not options.plain
        )
    except (Trouble, OSError, subprocess.SubprocessError) as error:
        console.print(str(error), style="red", markup=False, highlight=False)
        return EXIT_UNABLE
    except KeyboardInterrupt:
        console.print("interrupted; ending what was started", style="yellow")
        return EXIT_INTERRUPTED
    finally:
        node.stop(end_jobs=True)


if __name__ == "__main__":
    sys.exit(main())
