"""Where does a film cut? By ffmpeg's scene change detector.

    submit.py run --task scenes --input clip.mp4 --param file=clip.mp4 --artifact result.json --wait

Result: `{"file", "duration_s", "scenes": [{"start_s", "end_s"}], "cuts": [{"at_s", "score"}]}`. A score is how
much a frame differs from the one before it, 0 to 100.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tasks.support import Progress, decoding, input_file, number, probe

__all__ = ["CUTS_MAX", "Cut", "run", "scored_frames"]

CUTS_MAX = 5_000
# What ffmpeg's filter `metadata=print` writes for each frame.
_FRAME = re.compile(rb"^frame:\d+ +pts:\S+ +pts_time:(-?[0-9.]+)")
_SCORE = re.compile(rb"^lavfi\.scd\.score=([0-9.]+)")
_LINE_BYTES_MAX = 4096


class Cut(NamedTuple):
    """A frame, its time in seconds, and how much it differs from the one before it."""

    at_s: float
    score: float


def run(*, file: str, threshold: float = 10.0) -> dict[str, Any]:
    """Find the cuts of the input `file`: frames with a score of at least `threshold`.

    Raises:
        ValueError: a parameter is out of its range, `file` is no media file, has no picture, or has more than
            CUTS_MAX cuts.
        FileNotFoundError: the job has no such input.
        RuntimeError: ffmpeg can't decode it.

    """
    least = number("threshold", threshold, low=1, high=100)
    path = input_file(file)
    media = probe(path)
    if "video" not in media.kinds:
        raise ValueError(f"{file}: has no picture")
    progress = Progress(media.duration_s)
    cuts: list[Cut] = []
    end_s = None
    for frame in _frames(path):
        end_s = frame.at_s
        progress.reach(frame.at_s)
        if frame.score >= least:
            cuts.append(frame)
        if len(cuts) > CUTS_MAX:
            raise ValueError(f"threshold: {least:g} finds more than {CUTS_MAX} cuts in {file}; raise it")
    if end_s is None:
        raise ValueError(f"{file}: its picture has no frames")
    starts = [0.0, *(cut.at_s for cut in cuts)]
    ends = [*starts[1:], max(media.duration_s, end_s)]
    return {
        "file": file,
        "duration_s": round(ends[-1], 3),
        "scenes": [{"start_s": start, "end_s": end} for start, end in zip(starts, ends, strict=True)],
        "cuts": [cut._asdict() for cut in cuts],
    }


def scored_frames(lines: Iterable[bytes]) -> Iterator[Cut]:
    """Read what `metadata=print` writes; whatever is no frame with a score is skipped."""
    at_s = None
    for line in lines:
        if (frame := _FRAME.match(line)) is not None:
            at_s = float(frame[1])
        elif at_s is not None and (score := _SCORE.match(line)) is not None:
            yield Cut(at_s, float(score[1]))
            at_s = None


def _frames(path: Path) -> Iterator[Cut]:
    # Small pictures are enough to see a cut, and faster. The scores go to the standard output, the pictures nowhere.
    scores = "scdet=threshold=100,metadata=mode=print:key=lavfi.scd.score:file=-:direct=1"
    options = ("-map", "0:v:0", "-an", "-vf", f"scale=320:-2,{scores}", "-f", "null")
    with decoding(path, *options) as text:
        yield from scored_frames(iter(lambda: text.readline(_LINE_BYTES_MAX), b""))
