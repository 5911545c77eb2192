"""What a job's runs used over time, read from its folder, where the watch left it (`runners.series`)."""

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from fsm_miner.beneath import NotRegularError, NotThereError, open_regular
from fsm_miner.forensics.case import Sample
from runners.series import BYTES_MAX, parse_lines

__all__ = ["RUNS_MAX", "read_samples"]

RUNS_MAX = 32
_NAMES_MAX = 4096
_NAME = re.compile(r"run-([1-9][0-9]{0,5})\.usage\.jsonl", re.ASCII)


def read_samples(folder: Path) -> tuple[Sample, ...]:
    """Return the samples below a job's folder, run by run, each in the order of time; of the newest runs if many.

    What is not there, is no regular file, or makes no sense, is left out.

    Raises:
        OSError: the disk can't be read.

    """
    control = folder / "control"
    runs = sorted(_runs(control))[-RUNS_MAX:]
    return tuple(sample for run in runs for sample in _samples(control, run))


def _runs(control: Path) -> Iterator[int]:
    try:
        if not stat.S_ISDIR(control.stat(follow_symlinks=False).st_mode):
            return
        with os.scandir(control) as found:
            for _, entry in zip(range(_NAMES_MAX), found, strict=False):
                if match := _NAME.fullmatch(entry.name):
                    yield int(match[1])
    except FileNotFoundError:
        return


def _samples(control: Path, run: int) -> list[Sample]:
    try:
        fd = open_regular(control, f"run-{run}.usage.jsonl")
    except (NotThereError, NotRegularError):
        return []
    try:
        data = os.pread(fd, BYTES_MAX, 0)
    finally:
        os.close(fd)
    found = [
        Sample(run, line["at_ns"], float(line["cpu_s"]), float(line["memory_mb"]), float(line["disk_mb"]))
        for line in parse_lines(data)
        if line["run"] == run
    ]
    return sorted(found, key=lambda sample: sample.at_ns)
