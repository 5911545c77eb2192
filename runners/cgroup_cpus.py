"""Which processors a run gets for itself, where `cpuset` is delegated (cgroup-v2.rst, "Cpuset").

Nothing is remembered: who has which processors stands in the cgroups that are there.
"""

from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

__all__ = ["choose_cpus", "format_cpus", "parse_cpus"]

_CPUS_MAX = 8192


def choose_cpus(parent: Path, name: str, threads: int) -> str | None:
    """Return `threads` processors that no cgroup beside `name` has for itself, as a list (cpuset(7)).

    None where there are not enough of them: the run then shares all with everybody, within its quota.
    """
    free = parse_cpus(_text(parent / "cpuset.cpus.effective"))
    for other in sorted(parent.iterdir()):
        if other.name != name and other.is_dir():
            free -= parse_cpus(_text(other / "cpuset.cpus"))
    return format_cpus(sorted(free)[:threads]) if 0 < threads <= len(free) else None


def parse_cpus(text: str) -> set[int]:
    """Read a list such as `0-3,8`; what is none is left out."""
    found: set[int] = set()
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        last = last or first
        if first.isdecimal() and last.isdecimal() and int(last) < _CPUS_MAX:
            found.update(range(int(first), int(last) + 1))
    return found


def format_cpus(cpus: Iterable[int]) -> str:
    """Write ascending numbers as such a list."""
    numbers = list(cpus)
    starts = [numbers[0]] if numbers else []
    ends: list[int] = []
    for before, after in pairwise(numbers):
        if after != before + 1:
            ends.append(before)
            starts.append(after)
    ends += numbers[-1:]
    spans = zip(starts, ends, strict=True)
    return ",".join(str(start) if start == end else f"{start}-{end}" for start, end in spans)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""  # the cgroup has just been removed, or has no such file
