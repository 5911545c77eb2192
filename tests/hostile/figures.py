"""What the attacks cost the neighbour, as it was measured: recorded in one run of the suite, kept in figures.json."""

import json
import os
import platform
import statistics
import subprocess
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.hostile.scene import Asker

__all__ = ["FILE", "RECORD", "ROUNDS_RECORDED", "Figure", "Figures", "Recorder", "load"]

FILE = Path(__file__).with_name("figures.json")
RECORD = "FSM_MINER_HOSTILE_FIGURES"
"""The variable that names the file for the figures of a run."""

ROUNDS_RECORDED = 3
"""How often an attack is run for the record, and more often where a neighbour was late; the figures are the median."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One attack. `neighbour`: its time beside the attack / alone; `healthz_ms`: the slowest answer; `lived_s`."""

    neighbour: float
    healthz_ms: float
    lived_s: float


@dataclass(frozen=True, slots=True)
class Figures:
    """A run of the suite: where, how long the neighbour takes alone, and what was seen of each attack by name."""

    kernel: str
    cgroup: str
    cpus: int
    memory_mb: int
    bubblewrap: str
    alone_s: float
    attacks: dict[str, Figure]


@dataclass(slots=True)
class Recorder:
    """Collects what a run of the suite sees."""

    alone_s: list[float] = field(default_factory=list)
    seen: dict[str, list[Figure]] = field(default_factory=dict)

    def add(self, attack: str, asker: Asker, *, alone_s: float, beside_s: float, lived_s: float) -> None:
        """Note one try of an attack."""
        self.alone_s.append(alone_s)
        seen = Figure(beside_s / alone_s, asker.slowest_s * 1e3, lived_s)
        self.seen.setdefault(attack, []).append(seen)

    def write(self, path: str) -> None:
        """Write the figures down."""
        attacks = {name: _middle(rounds) for name, rounds in self.seen.items()}
        made = Figures(
            kernel=platform.release(),
            cgroup="v2" if Path("/sys/fs/cgroup/cgroup.controllers").exists() else "v1",
            cpus=len(os.sched_getaffinity(0)),
            memory_mb=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20,
            bubblewrap=subprocess.check_output(["bwrap", "--version"], text=True).split()[-1],
            alone_s=round(statistics.median(self.alone_s), 3),
            attacks=attacks,
        )
        Path(path).write_text(json.dumps(asdict(made), indent=1) + "\n")


def _middle(rounds: list[Figure]) -> Figure:
    return Figure(
        neighbour=round(statistics.median(one.neighbour for one in rounds), 2),
        healthz_ms=round(max(one.healthz_ms for one in rounds), 1),
        lived_s=round(statistics.median(one.lived_s for one in rounds), 2),
    )


def load(path: Path = FILE) -> Figures:
    """Return recorded figures.

    Raises:
        OSError, ValueError, KeyError, TypeError: the file is not what `Recorder.write` wrote.

    """
    found = json.loads(path.read_text())
    attacks = {name: Figure(**one) for name, one in found.pop("attacks").items()}
    return Figures(**found, attacks=attacks)
