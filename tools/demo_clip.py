"""The demo's film: made by ffmpeg, so that everything about it is known, and can be compared with what jobs find.

Three scenes, each of its own picture and sound: test card and a quiet tone, colour bars and silence, the Mandelbrot
set and a loud tone. A tone is a sine of 440 Hz.
"""

import json
import math
import subprocess
from pathlib import Path
from typing import Any

__all__ = [
    "CUTS_S",
    "DURATION_S",
    "LOUD_PEAK_DBFS",
    "RMS_DBFS",
    "SILENCE_S",
    "Media",
    "make_clip",
    "media_problems",
]

SCENE_S = 6
DURATION_S = 3 * SCENE_S
CUTS_S = (SCENE_S, 2 * SCENE_S)
SILENCE_S = (SCENE_S, 2 * SCENE_S)
# ffmpeg's source `sine` has an amplitude of 1/8; the loud one is four times that.
_QUIET, _LOUD = 1 / 8, 1 / 2
LOUD_PEAK_DBFS = 20 * math.log10(_LOUD)
# Over all three scenes: the mean of the powers, half the square of an amplitude each.
RMS_DBFS = 10 * math.log10((_QUIET**2 / 2 + 0 + _LOUD**2 / 2) / 3)
_MAKE_S = 60
_DURATION_OFF_S = 0.3

_PICTURES = ("testsrc2", "smptehdbars", "mandelbrot")
_SOUND = f"sine=frequency=440:sample_rate=48000:duration={SCENE_S}"
_SOUNDS = (_SOUND, f"anullsrc=channel_layout=mono:sample_rate=48000:duration={SCENE_S}", f"{_SOUND},volume=4")

Media = dict[str, Any]


def make_clip(target: Path) -> None:
    """Make the film, 640 by 360, H.264 and AAC.

    Raises:
        subprocess.SubprocessError: ffmpeg can't.

    """
    scenes = [
        f"{picture}=size=640x360:rate=25,trim=duration={SCENE_S},setsar=1,format=yuv420p[v{n}];{sound}[a{n}]"
        for n, (picture, sound) in enumerate(zip(_PICTURES, _SOUNDS, strict=True))
    ]
    joined = "".join(f"[v{n}][a{n}]" for n in range(len(scenes)))
    graph = ";".join([*scenes, f"{joined}concat=n={len(scenes)}:v=1:a=1[v][a]"])
    command = ["/usr/bin/ffmpeg", "-nostdin", "-hide_banner", "-v", "error", "-y", "-filter_complex", graph]
    command += [
        "-map",
        "[v]",
        "-map",
        "[a]",
        "-c:v",
        "libx264",
        "-preset",
        "veryfast",
        "-c:a",
        "aac",
        str(target),
    ]
    subprocess.run(command, check=True, timeout=_MAKE_S)


def media_problems(path: Path, *, width: int, height: int, video: str, audio: str) -> list[str]:
    """Compare a delivered film with what was ordered, by ffprobe; return what differs."""
    asked = subprocess.run(
        ["/usr/bin/ffprobe", "-v", "error", "-show_format", "-show_streams", "-of", "json", str(path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=_MAKE_S,
    )
    if asked.returncode != 0:
        return [f"ffprobe can't read {path.name}: {asked.stderr.strip()[-300:]}"]
    found: Media = json.loads(asked.stdout)
    streams = {stream["codec_type"]: stream for stream in found["streams"]}
    problems = [f"no {kind} stream" for kind in ("video", "audio") if kind not in streams]
    if problems:
        return problems
    got = {
        "video codec": (streams["video"]["codec_name"], video),
        "audio codec": (streams["audio"]["codec_name"], audio),
        "size": ((streams["video"]["width"], streams["video"]["height"]), (width, height)),
    }
    problems += [f"{name}: {is_}, not {ordered}" for name, (is_, ordered) in got.items() if is_ != ordered]
    duration_s = float(found["format"]["duration"])
    if abs(duration_s - DURATION_S) > _DURATION_OFF_S:
        problems.append(f"duration: {duration_s:.2f} s, not {DURATION_S} s")
    return problems
