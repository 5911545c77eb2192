"""What a run used, as it was seen: for the journal, the coordinator and the run's series."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from runners import cgroup_counts as counts
from runners.run import RunFiles
from runners.series import UsageSeries, read_lines

__all__ = ["Usage", "UsageMeter"]

_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Usage:
    """What the run used. Exact from a cgroup; else memory is as of the last look, so short runs are underestimated.

    None: nobody saw it. Unknown is not nothing.

    `more` is what only a cgroup tells, each as far as this kernel counts it: `throttled_s` (held back by its CPU
    quota), `processes_max`, `io_read_mb` and `io_written_mb` (disks), `stalled_s` (waiting, by resource).
    """

    cpu_s: float | None
    max_rss_mb: float | None
    more: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def to_json(self) -> dict[str, Any]:
        """Return what is known of it as JSON-ready data, for the journal and the coordinator."""
        known = {"cpu_s": self.cpu_s, "max_rss_mb": self.max_rss_mb}
        return {**{name: value for name, value in known.items() if value is not None}, **self.more}


class UsageMeter:
    """Collects the usage of one run; its figures only ever grow."""

    def __init__(self) -> None:
        self._cpu_s: float | None = None
        self._peak_bytes: int | None = None
        self._memory_bytes = 0
        self._written_bytes = 0
        self._more: dict[str, Any] = {}

    @property
    def usage(self) -> Usage:
        """The usage as it is known now."""
        return Usage(
            None if self._cpu_s is None else round(self._cpu_s, 3),
            None if self._peak_bytes is None else round(self._peak_bytes / _MIB, 1),
            dict(self._more),
        )

    def note(self, cpu_s: float | None, memory_bytes: int | None) -> None:
        """Take one look into account; None is what that look could not tell."""
        if cpu_s is not None:
            self._cpu_s = max(self._cpu_s or 0.0, cpu_s)
        if memory_bytes is not None:
            self._peak_bytes = max(self._peak_bytes or 0, memory_bytes)
        self._memory_bytes = self._memory_bytes if memory_bytes is None else memory_bytes

    def note_written(self, written_bytes: int) -> None:
        """Take what lies below the run's folders now into account."""
        self._written_bytes = written_bytes

    def note_cpu(self, cpu_s: float) -> None:
        """Take the kernel's own count of processor time into account."""
        self.note(cpu_s, None)

    def note_cgroup(self, files: RunFiles) -> None:
        """Take the cgroup's own figures: at each look, and at the end, before it is removed."""
        if files.cgroup is not None:
            counted = counts.usage(files.cgroup)
            peak = counted.memory_peak_bytes
            self.note(counted.cpu_s, counted.memory_bytes if peak is None else peak)
            self._memory_bytes = counted.memory_bytes or 0
            self._more |= _more(counted)

    def note_series(self, files: RunFiles, run: int) -> None:
        """Take what was written down of a run into account, by an earlier daemon too."""
        for line in read_lines(files.usage):
            if line["run"] == run:
                self.note(line["cpu_s"], round(line["memory_mb"] * _MIB))

    def note_in(self, series: UsageSeries, files: RunFiles) -> None:
        """Write what is known now into the run's series."""
        pressure = {} if files.cgroup is None else counts.pressure(files.cgroup)
        series.add(self._cpu_s or 0.0, self._memory_bytes, self._written_bytes, pressure)


def _more(counted: counts.CgroupUsage) -> dict[str, Any]:
    found = {
        "throttled_s": None if counted.throttled_s is None else round(counted.throttled_s, 3),
        "processes_max": counted.processes_max,
        "io_read_mb": None if counted.read_bytes is None else round(counted.read_bytes / _MIB, 1),
        "io_written_mb": None if counted.written_bytes is None else round(counted.written_bytes / _MIB, 1),
        "stalled_s": {name: round(s, 3) for name, s in counted.stalled_s.items()} or None,
    }
    return {name: value for name, value in found.items() if value is not None}
