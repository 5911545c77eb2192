"""Measure the product, each figure beside a floor of the same run: machines differ and are shared, ratios travel.

    bench.py [--out FILE] [--jobs N] [--quick] [ONLY ...]

Prints a table and writes a JSON list of {"name", "value", "unit", "floor", "ratio", "aim"}. A ratio says how many
times the floor the product costs (or, for rates, which part of the floor's rate it reaches). Nothing here fails
for being slow: timed tests on shared machines lie.
"""

import asyncio
import json
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from bench_neighbour import neighbours
from bench_node import BenchNode
from bench_sandbox import bare_chain_ms, start_costs_ms, two_chains_per_s
from bench_start import measure_starts
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from fsm_miner.recovery import replay
from journal import SqliteJournal, open_journal, open_reader
from journal.port import Entry, StreamKey
from runners.host import HostTools, probe_host
from states import events as e

AIMS = {
    "job latency": "at most 3 x the bare chain",
    "jobs per second": "at least 70/s where two bare chains at once reach 235/s",
    "durable appends, 256 streams": "at least 20,000/s",
    "replay": "at least 100,000 events/s",
    "start to registered": "0.8 s",
    "10,000 jobs more in the journal": "at most 1 s more",
    "idle processor time": "under 0.5 % of a core",
    "idle memory": "under 80 MB",
}


@dataclass(frozen=True, slots=True)
class Figure:
    """One row. `ratio` is value / floor, both in `unit`; None where there is no floor."""

    name: str
    value: float
    unit: str
    floor: float | None
    ratio: float | None
    aim: str | None


def figure(name: str, value: float, unit: str, floor: float | None) -> Figure:
    """Make a row."""
    ratio = None if not floor else round(value / floor, 2)
    shown = None if floor is None else float(f"{floor:.4g}")
    return Figure(name, float(f"{value:.4g}"), unit, shown, ratio, AIMS.get(name))


# Floors and figures.


def one_row_commits_per_s(path: Path, times: int) -> float:
    """Return SQLite's own rate of durable commits of one row."""
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("CREATE TABLE t (a, b)")
    began = time.perf_counter()
    for number in range(times):
        db.execute("INSERT INTO t VALUES (?, ?)", (number, "x" * 200))
    rate = times / (time.perf_counter() - began)
    db.close()
    return rate


def sandbox(host: HostTools, folder: Path) -> Iterator[Figure]:
    """Measure what starting a job's process costs, against starting it bare, and in a bare sandbox."""
    took = start_costs_ms(host, folder, 60)
    yield figure("start, a bare bwrap", took["bare bwrap"], "ms", took["bare"])
    yield figure("start, the complete sandbox", took["complete"], "ms", took["bare"])
    yield figure("the same against a bare bwrap", took["complete"], "ms", took["bare bwrap"])
    yield figure("start, with secrets", took["with secrets"], "ms", took["complete"])
    yield figure("start, with egress", took["with egress"], "ms", took["complete"])


def beside(folder: Path) -> Iterator[Figure]:
    """Measure what the end of another job costs one that computes, against the same job alone."""
    for what, beside_s, alone_s in neighbours(folder):
        yield figure(f"neighbour of {what}", beside_s, "s", alone_s)


def jobs(node: BenchNode, host: HostTools, folder: Path, count: int) -> Iterator[Figure]:
    """Latency of one job at a time, then the rate with a full queue; the floors before and after each."""
    before = bare_chain_ms(host, folder / "a", 30)
    latencies = [node.run_one() for _ in range(40)]
    after = bare_chain_ms(host, folder / "b", 30)
    yield figure("job latency", statistics.median(latencies) * 1e3, "ms", (before + after) / 2)
    before = two_chains_per_s(host, folder / "c", 60)
    rate = node.run_many(count)
    after = two_chains_per_s(host, folder / "d", 60)
    yield figure("jobs per second", rate, "1/s", (before + after) / 2)


async def _append_storm(journal: SqliteJournal, streams: int, total: int) -> float:
    entry = Entry("Acked", 1, "PULLING", "ACKED", {"lease_s": 30.0})

    async def one(number: int) -> None:
        key = StreamKey(f"j-{streams}-{number}", 1)
        for seq in range(total // streams):
            await journal.append(key, seq, [entry])

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(streams):
            group.create_task(one(number))
    return (total // streams) * streams / (time.perf_counter() - began)


def appends(folder: Path) -> Iterator[Figure]:
    """Durable appends a second by concurrent streams, against one-row commits."""
    floor = one_row_commits_per_s(folder / "floor.db", 2000)

    async def measure() -> list[tuple[int, float]]:
        journal, _ = open_journal(folder / "appends.db", boot_id="bench", now_ns=time.time_ns)
        try:
            return [
                (n, await _append_storm(journal, n, total))
                for n, total in ((1, 1000), (16, 8000), (256, 40960))
            ]
        finally:
            await journal.close()

    for streams, rate in asyncio.run(measure()):
        yield figure(f"durable appends, {streams} stream{'s' * (streams > 1)}", rate, "1/s", floor)


_LIFE: tuple[tuple[str, str, e.Event], ...] = (
    ("PULLING", "ACKED", e.Acked(30.0)),
    ("ACKED", "PREP", e.PrepStarted()),
    ("PREP", "PREP", e.LaunchIntended(1, "boot", "/l", None, "/bin/true", "0" * 64, 60.0, 16384, 1000)),
    ("PREP", "RUNNING", e.Launched(1, 4711, 1, 1, ("sandbox-bubblewrap",))),
    ("RUNNING", "RUNNING", e.Ended("exited", 0, None, 1, {"cpu_s": 0.1, "max_rss_mb": 3.0})),
    ("RUNNING", "UPLOADING", e.OutcomeKnown(None, "exit code 0")),
    ("UPLOADING", "DONE", e.Delivered(200)),
)


def replays(folder: Path, streams: int = 5000) -> Iterator[Figure]:
    """Events a second: read, chain checked, decoded, evolved; against reading the rows alone."""
    path = folder / "replay.db"

    async def fill() -> int:
        journal, _ = open_journal(path, boot_id="bench", now_ns=time.time_ns)
        for number in range(streams):
            offered = e.Offered(f"j-{number}", 1, {"command": "true", "artifacts": []}, "0" * 64, 1)
            entries = [Entry("Offered", 1, "IDLE", "PULLING", e.to_data(offered))]
            entries += [Entry(type(x).__name__, 1, source, dest, e.to_data(x)) for source, dest, x in _LIFE]
            await journal.append(StreamKey(f"j-{number}", 1), 0, entries)
        await journal.close()
        return streams * (len(_LIFE) + 1)

    events = asyncio.run(fill())
    began = time.perf_counter()
    rows = sqlite3.connect(path).execute("SELECT * FROM records ORDER BY n").fetchall()
    floor = len(rows) / (time.perf_counter() - began)
    assert len(rows) == events
    with open_reader(path) as reader:
        began = time.perf_counter()
        found = replay(reader.records())
        rate = events / (time.perf_counter() - began)
    assert len(found.finished) == streams
    yield figure("replay", rate, "events/s", floor)


def _life(job_id: str) -> list[Entry]:
    """Return the facts of an ordinary job, as they are appended."""
    manifest = {
        "job_id": job_id, "attempt": 1, "runner": "cli", "command": "true", "args": [], "artifacts": [],
        "timeout_s": 60.0, "requirements": {"gpu": False, "vram_mb": 0, "cpu_threads": 1}, "input": {"urls": []},
    }  # fmt: skip
    offered = e.Offered(job_id, 1, manifest, "0" * 64, 1)
    entries = [Entry("Offered", 1, "IDLE", "PULLING", e.to_data(offered))]
    return entries + [Entry(type(x).__name__, 1, source, dest, e.to_data(x)) for source, dest, x in _LIFE]


def journal_cost(folder: Path, jobs_count: int = 300) -> Iterator[Figure]:
    """Measure what a job that is alone costs the journal: milliseconds, against as many bare commits; and bytes."""
    path = folder / "cost.db"

    async def lives() -> float:
        journal, _ = open_journal(path, boot_id="bench", now_ns=time.time_ns)
        began = time.perf_counter()
        for number in range(jobs_count):
            key = StreamKey(f"j-{number}", 1)
            for seq, entry in enumerate(_life(key.job_id)):
                await journal.append(key, seq, [entry])
        took_s = time.perf_counter() - began
        await journal.close()
        return took_s

    facts = len(_LIFE) + 1
    before = one_row_commits_per_s(folder / "cost-floor-a.db", 1000)
    cost_ms = asyncio.run(lives()) / jobs_count * 1e3
    after = one_row_commits_per_s(folder / "cost-floor-b.db", 1000)
    yield figure(f"journal, a job of {facts} facts", cost_ms, "ms", facts * 2e3 / (before + after))
    with open_reader(path) as reader:
        texts = sum(len(record.data_json) for record in reader.records())
    yield figure("journal, a job in bytes", path.stat().st_size / jobs_count, "bytes", texts / jobs_count)


def starts(folder: Path, finished: int = 10_000, running: int = 50) -> Iterator[Figure]:
    """Measure from the daemon's spawning to the last job reattached: what a full journal adds, beside reading rows."""
    took = measure_starts(folder, _life, finished=finished, running=running)
    yield figure("start, empty journal, to registered", took.empty_s, "s", None)
    yield figure(f"start, {running} running, to reattached", took.running_s, "s", None)
    yield figure(f"start, {running} running and {finished:,} over", took.full_s, "s", None)
    yield figure(f"{finished:,} jobs more in the journal", took.full_s - took.running_s, "s", took.rows_s)
    yield figure("the same, all of it checked first", took.whole_s - took.running_s, "s", took.rows_s)


def idle(node: BenchNode, seconds: float) -> Iterator[Figure]:
    """Measure what the daemon costs with nothing to do, against a Python that only waits on an event loop."""
    share, memory_mb = node.idle(seconds)
    yield figure("idle processor time", share * 100, "% of a core", None)
    yield figure("idle memory", memory_mb, "MB", node.bare_python_mb())


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="fsm-miner-bench-") as name:
        yield Path(name)


def measure(count: int, idle_s: float, tell: Callable[[str], None]) -> Iterator[Figure]:
    """Measure everything, one thing at a time."""
    host = probe_host()
    if not isinstance(host, HostTools):
        raise SystemExit("\n".join(host.problems))
    with _folder() as folder:
        tell("sandbox")
        yield from sandbox(host, folder / "sandbox")
        tell("neighbours")
        yield from beside(folder / "neighbours")
        tell("appends")
        yield from appends(folder)
        tell("replay")
        yield from replays(folder)
        tell("journal cost")
        yield from journal_cost(folder)
        tell("start with a full journal")
        yield from starts(folder / "starts")
        tell("start")
        with BenchNode(folder / "node") as node:
            yield figure("start to registered", node.start_s, "s", node.bare_start_s())
            tell("idle")
            yield from idle(node, idle_s)
            tell("jobs")
            yield from jobs(node, host, folder / "chains", count)


def main(
    out: Annotated[Path, typer.Option(help="Where the JSON goes.")] = Path("build/bench.json"),
    jobs_count: Annotated[int, typer.Option("--jobs", help="Jobs in the full queue.")] = 300,
    idle_s: Annotated[float, typer.Option(help="How long to watch the idle daemon.")] = 10.0,
) -> None:
    """Measure, print a table, write JSON."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("measuring", total=None)
        figures = list(measure(jobs_count, idle_s, lambda what: progress.update(task, description=what)))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps([asdict(row) for row in figures], indent=2) + "\n")
    table = Table("figure", "value", "unit", "floor", "ratio", "aim")
    for row in figures:
        cells: list[Any] = [row.name, f"{row.value:,.4g}", row.unit, row.floor, row.ratio, row.aim]
        table.add_row(*("-" if cell is None else str(cell) for cell in cells))
    console.print(table)
    console.print(f"written to {out}")


if __name__ == "__main__":
    try:
        typer.run(main)
    except httpx.HTTPError as error:
        raise SystemExit(f"the benchmark's coordinator does not answer: {error}") from error
