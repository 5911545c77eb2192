"""How long a start takes with a full journal: real jobs that run, a daemon that is killed, thousands that are over."""

import asyncio
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from bench_node import BenchNode

from journal import SqliteJournal
from journal.port import Entry, StreamKey
from runners.clock import boot_id

__all__ = ["Starts", "measure_starts"]

_DEADLINE_S = 120.0
_TIMES = 5


@dataclass(frozen=True, slots=True)
class Starts:
    """The fastest of some, in seconds, from spawning the daemon. `rows_s`: reading all rows of the full journal.

    `empty_s`: to registered, nothing in the journal. The others: to the last of the running jobs reattached;
    `running_s` with those alone, `full_s` with all that is over as well, `whole_s` when everything is checked first.
    """

    empty_s: float
    running_s: float
    full_s: float
    whole_s: float
    rows_s: float


def measure_starts(
    folder: Path, life: Callable[[str], list[Entry]], *, finished: int, running: int
) -> Starts:
    """Run `running` real jobs, add `finished` streams of `life`, and start the daemon again and again."""
    with BenchNode(folder, slots=running, program="sleep", arguments="600") as node:
        empty_s = min(_registered_s(node) for _ in range(_TIMES))
        path = folder / "state" / "journal.db"
        job_ids = node.submit([{"runner": "cli", "command": "sleep", "args": ["600"]}] * running)
        _until(lambda: _events(path, "Launched", 0) == running)
        try:
            running_s = _reattached_s(node, path, running)
            node.kill_daemon()
            _fill(path, life, finished)
            rows_s = _rows_s(path)
            node.spawn_daemon()
            full_s = _reattached_s(node, path, running)
            whole_s = _reattached_s(node, path, running, forget=True)
        finally:
            last = _newest(path)
            node.cancel(job_ids)
            # Superseded, where the coordinator has given one up: the daemon was never there for long.
            _until(lambda: _events(path, "Delivered", last) + _events(path, "Superseded", last) == running)
    return Starts(empty_s, running_s, full_s, whole_s, rows_s)


def _registered_s(node: BenchNode) -> float:
    node.kill_daemon()
    return node.registered_s()


def _reattached_s(node: BenchNode, path: Path, running: int, *, forget: bool = False) -> float:
    """Return the fastest of some starts: what else the machine does only adds.

    With `forget` each is the first start of another version.
    """
    took: list[float] = []
    for _ in range(_TIMES):
        node.kill_daemon()
        last = _newest(path)
        if forget:
            with closing(sqlite3.connect(path, isolation_level=None)) as conn:
                conn.execute("DELETE FROM meta")
        began = time.perf_counter()
        node.spawn_daemon()
        _until(lambda last=last: _events(path, "Reattached", last) == running)
        took.append(time.perf_counter() - began)
    return min(took)


def _newest(path: Path) -> int:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as conn:
        return conn.execute("SELECT max(n) FROM records").fetchone()[0] or 0


def _events(path: Path, event: str, after: int) -> int:
    """Count an event among the records that came after that one."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as conn:
        query = "SELECT count(*) FROM records WHERE n > ? AND event = ?"
        return conn.execute(query, (after, event)).fetchone()[0]


def _fill(path: Path, life: Callable[[str], list[Entry]], streams: int) -> None:
    async def fill() -> None:
        journal = SqliteJournal(path, boot_id=boot_id(), now_ns=count(time.time_ns()).__next__)
        for number in range(streams):
            await journal.append(StreamKey(f"over-{number}", 1), 0, life(f"over-{number}"))
        await journal.close()

    asyncio.run(fill())


def _rows_s(path: Path) -> float:
    began = time.perf_counter()
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("SELECT * FROM records ORDER BY n").fetchall()
    return time.perf_counter() - began


def _until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _DEADLINE_S
    while not true():
        if time.monotonic() > deadline:
            raise SystemExit("the benchmark's node does not get there; see its logs")
        time.sleep(0.005)
