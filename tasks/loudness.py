"""How loud is a recording, where is it silent? Level by level, from the decoded samples.

    submit.py run --task loudness --input clip.mp4 --param file=clip.mp4 --artifact result.json \
        --artifact loudness.csv:text/csv --wait

Levels are in dBFS: 0 is the largest sample value there is; a sine that reaches it has an RMS level of -3.01.
Digital silence is given as FLOOR_DBFS. Everything is mixed down to one channel at 48 kHz first.

Result: `{"file", "duration_s", "rms_dbfs", "peak_dbfs", "silences": [{"start_s", "end_s"}], "windows"}`.
Artifact: `loudness.csv`, a line for each window: its start in seconds, its RMS and peak level.
"""

import csv
import math
import sys
from array import array
from collections.abc import Iterator, Sequence
from operator import mul
from pathlib import Path
from typing import Any, NamedTuple

from tasks.support import Progress, decoding, input_file, number, output_folder, probe

__all__ = ["FLOOR_DBFS", "SAMPLES_PER_S", "Window", "levels", "run", "silences"]

SAMPLES_PER_S = 48_000
FLOOR_DBFS = -120.0
_FULL_SCALE = 32_768
_SAMPLE_BYTES = 2


class Window(NamedTuple):
    """A short piece of the recording: how many samples, the sum of their squares, the largest magnitude."""

    samples: int
    energy: int
    peak: int

    @property
    def rms_dbfs(self) -> float:
        """The RMS level."""
        return _dbfs(math.sqrt(self.energy / self.samples))

    @property
    def peak_dbfs(self) -> float:
        """The level of the largest sample."""
        return _dbfs(self.peak)


def run(*, file: str, window_s: float = 0.5, silence_dbfs: float = -60.0) -> dict[str, Any]:
    """Measure the input `file` in windows of `window_s` seconds; those below `silence_dbfs` (RMS) are silent.

    Raises:
        ValueError: a parameter is out of its range, or `file` is no media file, or has no sound.
        FileNotFoundError: the job has no such input.
        RuntimeError: ffmpeg can't decode it.

    """
    width_s = number("window_s", window_s, low=0.01, high=60)
    limit_dbfs = number("silence_dbfs", silence_dbfs, low=FLOOR_DBFS, high=0)
    path = input_file(file)
    media = probe(path)
    if "audio" not in media.kinds:
        raise ValueError(f"{file}: has no sound")
    progress = Progress(media.duration_s)
    windows: list[Window] = []
    for window in _windows(path, max(1, round(width_s * SAMPLES_PER_S))):
        windows.append(window)
        progress.advance(window.samples / SAMPLES_PER_S)
    if not windows:
        raise ValueError(f"{file}: its sound has no samples")
    whole = Window(
        sum(window.samples for window in windows),
        sum(window.energy for window in windows),
        max(window.peak for window in windows),
    )
    duration_s = round(whole.samples / SAMPLES_PER_S, 3)
    silent = silences([window.rms_dbfs for window in windows], width_s, limit_dbfs)
    for stretch in silent:
        stretch["end_s"] = min(stretch["end_s"], duration_s)  # the last window may be cut short
    _write_csv(output_folder() / "loudness.csv", windows, width_s)
    return {
        "file": file,
        "duration_s": duration_s,
        "rms_dbfs": whole.rms_dbfs,
        "peak_dbfs": whole.peak_dbfs,
        "silences": silent,
        "windows": len(windows),
    }


def levels(samples: "array[int]") -> Window:
    """Return the figures of signed 16-bit samples, at least one."""
    highest, lowest = max(samples), min(samples)
    return Window(len(samples), sum(map(mul, samples, samples)), max(highest, -lowest))


def silences(levels_dbfs: Sequence[float], width_s: float, limit_dbfs: float) -> list[dict[str, float]]:
    """Return the stretches of windows, each `width_s` long, that are all below the limit."""
    found: list[dict[str, float]] = []
    for index, level in enumerate(levels_dbfs):
        if level >= limit_dbfs:
            continue
        start_s, end_s = round(index * width_s, 3), round((index + 1) * width_s, 3)
        if found and found[-1]["end_s"] == start_s:
            found[-1]["end_s"] = end_s
        else:
            found.append({"start_s": start_s, "end_s": end_s})
    return found


def _windows(path: Path, samples_each: int) -> Iterator[Window]:
    """Decode the file, a window at a time: a recording of any length needs the memory of one."""
    options = ("-map", "0:a:0", "-ac", "1", "-ar", str(SAMPLES_PER_S), "-c:a", "pcm_s16le", "-f", "s16le")
    with decoding(path, *options) as sound:
        while data := sound.read(samples_each * _SAMPLE_BYTES):
            samples = array("h", data[: len(data) - len(data) % _SAMPLE_BYTES])
            if sys.byteorder == "big":
                samples.byteswap()
            if samples:
                yield levels(samples)


def _write_csv(target: Path, windows: Sequence[Window], width_s: float) -> None:
    with target.open("w", newline="", encoding="ascii") as file:
        table = csv.writer(file)
        table.writerow(["start_s", "rms_dbfs", "peak_dbfs"])
        for index, window in enumerate(windows):
            table.writerow([round(index * width_s, 3), window.rms_dbfs, window.peak_dbfs])


def _dbfs(magnitude: float) -> float:
    if magnitude <= 0:
        return FLOOR_DBFS
    return round(max(FLOOR_DBFS, 20 * math.log10(magnitude / _FULL_SCALE)), 2)
