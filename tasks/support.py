"""What the tasks here share: their folders, parameters, progress, and ffmpeg. Not a task itself: it has no `run`."""

import json
import math
import os
import subprocess
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

__all__ = ["Media", "Progress", "decoding", "input_file", "input_folder", "number", "output_folder", "probe"]

_FFMPEG = "/usr/bin/ffmpeg"
_FFPROBE = "/usr/bin/ffprobe"
_MESSAGE_CHARS_MAX = 500


def input_folder() -> Path:
    """Return the folder of the job's inputs, read-only in the sandbox."""
    return Path(os.environ["JOB_INPUT"])


def output_folder() -> Path:
    """Return the folder that declared artifacts are collected from."""
    return Path(os.environ["JOB_OUTPUT"])


def input_file(name: object) -> Path:
    """Return the input that a parameter names.

    Raises:
        ValueError: it is no plain file name.
        FileNotFoundError: the job has no such input; the message lists those it has.

    """
    if not isinstance(name, str) or name in {"", ".", ".."} or "/" in name or "\0" in name:
        raise ValueError(f"file: {name!r} is not the name of an input")
    path = input_folder() / name
    if not path.is_file():
        there = ", ".join(sorted(entry.name for entry in input_folder().iterdir())) or "none"
        raise FileNotFoundError(f"file: the job has no input {name!r}; its inputs: {there}")
    return path


def number(name: str, value: object, *, low: float, high: float) -> float:
    """Return the parameter `name` as a number from `low` to `high`.

    Raises:
        ValueError: it is no number, or not in that range.

    """
    fits = isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
    if not fits:
        raise ValueError(f"{name}: a number from {low:g} to {high:g} is needed, not {value!r}")
    assert isinstance(value, int | float)
    return float(value)


def _print(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - the daemon reads it in the job's log


class Progress:
    """Tells the daemon how far the task is: a line `progress: N%` for each new whole percent.

    A `total` of 0 or less is unknown: then nothing is told.
    """

    def __init__(self, total: float, *, tell: Callable[[str], None] = _print) -> None:
        self._total = total
        self._tell = tell
        self._done = 0.0
        self._told = -1

    def advance(self, amount: float) -> None:
        """Add to what is done, in the unit of `total`."""
        self.reach(self._done + amount)

    def reach(self, done: float) -> None:
        """Set what is done, in the unit of `total`."""
        self._done = done
        if self._total <= 0:
            return
        pct = math.floor(min(100.0, max(0.0, 100 * done / self._total)))
        if pct > self._told:
            self._told = pct
            self._tell(f"progress: {pct}%")


class Media(NamedTuple):
    """What a media file holds: its duration in seconds (0 if it does not say), kinds of streams ("audio", "video")."""

    duration_s: float
    kinds: frozenset[str]


def probe(path: Path) -> Media:
    """Look into a media file.

    Raises:
        ValueError: it is none.

    """
    wanted = "format=duration:stream=codec_type"
    asked = subprocess.run(
        [_FFPROBE, "-v", "error", "-show_entries", wanted, "-of", "json", _url(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    if asked.returncode != 0:
        raise ValueError(f"{path.name}: not a media file: {_last_line(asked.stderr)}")
    found: dict[str, Any] = json.loads(asked.stdout)
    kinds = frozenset(str(stream.get("codec_type")) for stream in found.get("streams", ()))
    # Streams without a header have no duration.
    duration_s = float(found.get("format", {}).get("duration", 0))
    return Media(duration_s if math.isfinite(duration_s) else 0.0, kinds)


@contextmanager
def decoding(path: Path, *options: str) -> Generator[IO[bytes]]:
    """Run ffmpeg on a file and yield what it writes to its standard output; its messages go to the log.

    Whatever is left unread is dropped: leaving early ends ffmpeg.

    Raises:
        RuntimeError: ffmpeg failed, after everything it wrote was read.

    """
    command = [_FFMPEG, "-nostdin", "-hide_banner", "-v", "error", "-i", _url(path), *options, "pipe:1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield process.stdout
            ended = process.stdout.read(1) == b""
        except BaseException:
            process.kill()
            raise
        if not ended:
            process.kill()
            return
        code = process.wait()
    if code != 0:
        raise RuntimeError(f"{path.name}: ffmpeg ended with code {code}; what it said stands above")


def _url(path: Path) -> str:
    # Without a protocol, ffmpeg would look for one in the name.
    return f"file:{path}"


def _last_line(text: str) -> str:
    lines = text.strip().splitlines() or ["no reason given"]
    return lines[-1][:_MESSAGE_CHARS_MAX]
