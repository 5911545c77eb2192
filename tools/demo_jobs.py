"""The demo's jobs: what each shows, its manifest, the outcome it must have, and how its result is checked."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo_clip import CUTS_S, DURATION_S, LOUD_PEAK_DBFS, RMS_DBFS, SILENCE_S, media_problems

__all__ = ["SURVIVOR", "DemoJob", "Finding", "Source", "demo_jobs"]

SURVIVOR = "survivor"
CLIP = "clip.mp4"
_CUT_OFF_S = 0.1
_LEVEL_OFF_DB = 0.5
_SILENCE_OFF_S = 0.6
# Seconds of work for one core, so that there is time to kill the daemon, or to run out of time.
_LONG = ["-y", "-i", CLIP, "-threads", "1", "-vf", "scale=1280:720", "-preset", "slower"]


@dataclass(frozen=True, slots=True)
class Source:
    """The clip, as the coordinator serves it."""

    url: str
    sha256: str
    size: int

    @classmethod
    def of(cls, path: Path, url: str) -> "Source":
        """Describe a file that `url` serves."""
        data = path.read_bytes()
        return cls(url, hashlib.sha256(data).hexdigest(), len(data))

    def as_input(self, sha256: str | None = None) -> dict[str, Any]:
        """Return it as a manifest's input."""
        return {"urls": [{"url": self.url, "name": CLIP, "sha256": sha256 or self.sha256}]}


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check of a result found: what is wrong, and otherwise a few words about what is there."""

    problems: tuple[str, ...]
    summary: str


Check = Callable[[Callable[[str], Path]], Finding]


@dataclass(frozen=True, slots=True)
class DemoJob:
    """One job. `expected` is "done" or an error code; `check` gets a function from artifact names to files."""

    name: str
    shows: str
    manifest: dict[str, Any]
    expected: str
    check: Check | None = None


def demo_jobs(source: Source) -> list[DemoJob]:
    """Return all jobs, in the order they are handed in."""
    film = [{"path": "output.mp4", "type": "video/mp4", "max_mb": 100}]
    report = {"path": "result.json", "type": "application/json", "max_mb": 1}
    table = {"path": "loudness.csv", "type": "text/csv", "max_mb": 1}
    encode = ["-c:v", "libx264", "-c:a", "aac", "output.mp4"]
    clip = {"input": source.as_input(), "timeout_s": 120}
    task = {"runner": "python", "params": {"file": CLIP}}
    tool = {"runner": "cli", "command": "ffmpeg", "artifacts": film}
    return [
        DemoJob(
            "transcode",
            "ffmpeg makes a smaller film",
            clip | tool | {"args": ["-y", "-i", CLIP, "-vf", "scale=320:180", "-preset", "medium", *encode]},
            "done",
            lambda file: _film(file("output.mp4"), 320, 180),
        ),
        DemoJob(
            "loudness",
            "Python task measures the sound",
            clip | task | {"task": "loudness", "artifacts": [report, table]},
            "done",
            lambda file: _loudness(_json(file("result.json")), file("loudness.csv").read_text()),
        ),
        DemoJob(
            "scenes",
            "Python task finds the cuts",
            clip | task | {"task": "scenes", "artifacts": [report]},
            "done",
            lambda file: _scenes(_json(file("result.json"))),
        ),
        DemoJob(
            "fetch",
            "input by URL, SHA-256 checked",
            clip | task | {"task": "example", "params": {}, "artifacts": [report]},
            "done",
            lambda file: _fetched(_json(file("result.json")), source),
        ),
        DemoJob(
            "tampered",
            "input with a wrong SHA-256",
            clip | task | {"task": "example", "params": {}, "input": source.as_input("0" * 64)},
            "E_INPUT",
        ),
        DemoJob(
            "forbidden",
            "a command that is not allowed",
            {"runner": "cli", "command": "sh", "args": ["-c", "id"], "timeout_s": 10},
            "E_DENY",
        ),
        DemoJob(
            "sneaky",
            "ffmpeg, but to read /etc/passwd",
            {**tool, "args": ["-y", "-i", "/etc/passwd", *encode], "timeout_s": 10},
            "E_DENY",
        ),
        # Handed out first, to be over before the daemon is killed.
        DemoJob(
            "endless",
            "runs out of time (2 s)",
            clip | tool | {"args": [*_LONG, *encode], "timeout_s": 2, "priority": 1},
            "E_TIMEOUT",
        ),
        DemoJob(
            SURVIVOR,
            "daemon killed (-9) meanwhile",
            clip | tool | {"args": [*_LONG, *encode]},
            "done",
            lambda file: _film(file("output.mp4"), 1280, 720),
        ),
    ]


def _film(path: Path, width: int, height: int) -> Finding:
    problems = media_problems(path, width=width, height=height, video="h264", audio="aac")
    size_kib = path.stat().st_size // 1024
    return Finding(tuple(problems), f"{width}x{height} h264 + aac, {DURATION_S} s, {size_kib} KiB")


def _scenes(found: dict[str, Any]) -> Finding:
    cuts_s = [float(cut["at_s"]) for cut in found["cuts"]]
    right = len(cuts_s) == len(CUTS_S) and all(
        abs(is_ - made) <= _CUT_OFF_S for is_, made in zip(cuts_s, CUTS_S, strict=True)
    )
    problems = () if right else (f"cuts at {cuts_s} s; the film has them at {list(CUTS_S)} s",)
    return Finding(problems, f"cuts at {', '.join(f'{at:g}' for at in cuts_s)} s")


def _loudness(found: dict[str, Any], table: str) -> Finding:
    rms, peak = float(found["rms_dbfs"]), float(found["peak_dbfs"])
    stretches = [(float(s["start_s"]), float(s["end_s"])) for s in found["silences"]]
    problems: list[str] = []
    if abs(rms - RMS_DBFS) > _LEVEL_OFF_DB:
        problems.append(f"RMS {rms} dBFS; the film has {RMS_DBFS:.2f}")
    if abs(peak - LOUD_PEAK_DBFS) > 2 * _LEVEL_OFF_DB:
        problems.append(f"peak {peak} dBFS; the film has {LOUD_PEAK_DBFS:.2f}")
    if len(stretches) != 1 or any(
        abs(is_ - made) > _SILENCE_OFF_S for is_, made in zip(stretches[0], SILENCE_S, strict=True)
    ):
        problems.append(f"silence {stretches} s; the film has {SILENCE_S}")
    if len(table.splitlines()) != found["windows"] + 1:
        problems.append(f"loudness.csv has {len(table.splitlines())} lines for {found['windows']} windows")
    silent = ", ".join(f"{start:g}-{end:g} s" for start, end in stretches)
    return Finding(tuple(problems), f"RMS {rms}, peak {peak} dBFS, silent {silent}")


def _fetched(found: dict[str, Any], source: Source) -> Finding:
    wanted = [{"name": CLIP, "bytes": source.size, "digest": source.sha256}]
    problems = () if found["files"] == wanted else (f"the job saw {found['files']}, served was {wanted}",)
    return Finding(problems, f"{source.size // 1024} KiB, the job saw {source.sha256[:12]}…")


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_bytes())
