"""Run random histories for as long as wanted: `python tests/simulation/run.py --seconds 600 [--seed 1000]`.

With more than a minute to run, one process for each core works through the seeds. A broken promise ends the run,
and prints its seed, the shortest history that was found, and how to see it again.
"""

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import count
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2]))

from tests.simulation.histories import history
from tests.simulation.shortest import shortest
from tests.simulation.world import BrokenPromise, simulate

_ONE_PROCESS_S = 60.0
_YEAR_S = 365.25 * 86400.0


class Totals:
    """What many runs did."""

    def __init__(self) -> None:
        self.histories = self.lives = self.stops = self.jobs = 0
        self.simulated_s = 0.0
        self.crashes: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.checked: Counter[str] = Counter()

    def run(self, seed: int) -> None:
        """Run a seed's history.

        Raises:
            BrokenPromise: it breaks one.

        """
        report = simulate(history(seed))
        self.histories += 1
        self.lives += report.lives
        self.stops += report.stops
        self.jobs += report.jobs
        self.simulated_s += report.simulated_s
        for mine, its in self._counters(report):
            mine.update(its)

    def add(self, other: "Totals") -> None:
        """Add what another process did."""
        for name in ("histories", "lives", "stops", "jobs", "simulated_s"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for mine, its in self._counters(other):
            mine.update(its)

    def _counters(self, other) -> Iterator[tuple[Counter[str], Counter[str]]]:
        return zip(
            (self.crashes, self.faults, self.checked),
            (other.crashes, other.faults, other.checked),
            strict=True,
        )

    def told(self) -> str:
        """Return everything, for people."""
        days = f"{self.simulated_s / _YEAR_S:.2f} simulated years ({self.simulated_s / 86400:.1f} days)"
        kills, cuts = self.crashes["kill"], self.crashes["power cut"]
        lines = [
            f"{self.histories} histories, {days}, {self.jobs} jobs, {self.lives} lives of the daemon",
            f"ended: {kills} by kill -9, {cuts} by a power cut, {self.stops} by SIGTERM",
            f"faults injected: {self.faults.total()}",
            *(f"  {number:9d}  {what}" for what, number in sorted(self.faults.items())),
            f"promises checked: {self.checked.total()}, none broken",
            *(f"  {number:9d}  {what}" for what, number in sorted(self.checked.items())),
        ]
        return "\n".join(lines)


def work(first: int, step: int, seconds: float) -> tuple[Totals, str | None]:
    """Run every `step`-th seed from `first` on; return the totals, and the story of a broken promise."""
    until_s = time.monotonic() + seconds
    totals = Totals()
    for seed in count(first, step):
        try:
            totals.run(seed)
        except BrokenPromise as broken:
            return totals, _story(seed, broken)
        if time.monotonic() >= until_s:
            return totals, None
    raise AssertionError("there is no last seed")


def _story(seed: int, broken: BrokenPromise) -> str:
    short = shortest(broken)
    return (
        f"seed {seed} breaks the promise {broken.name}; the shortest history found (of "
        f"{len(broken.history)} lines):\n{short}\n"
        f"again: python tests/simulation/run.py --seconds 0 --seed {seed}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="wall-clock time to run for; 0: one seed")
    parser.add_argument("--seed", type=int, default=None, help="the first seed; by default the time of day")
    parser.add_argument("--processes", type=int, default=None, help="by default one a core, from a minute on")
    options = parser.parse_args()
    first = int(time.time()) * 1000 if options.seed is None else options.seed
    cores = len(os.sched_getaffinity(0)) if options.seconds > _ONE_PROCESS_S else 1
    processes = cores if options.processes is None else options.processes
    totals = Totals()
    stories: list[str] = []
    if processes == 1:
        parts = [work(first, 1, options.seconds)]
    else:
        with ProcessPoolExecutor(processes) as pool:
            starts = [first + number for number in range(processes)]
            parts = list(pool.map(work, starts, [processes] * processes, [options.seconds] * processes))
    for part, story in parts:
        totals.add(part)
        stories.extend([story] if story is not None else [])
    print(f"seeds from {first} on, {processes} at a time")
    print(totals.told() if not stories else "\n\n".join(stories))
    return 1 if stories else 0


if __name__ == "__main__":
    sys.exit(main())
