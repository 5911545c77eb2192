"""The example tasks: what they measure, and what they refuse. test_demo.py runs them in the sandbox."""

import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
import wave
from array import array
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsm_miner.log_tail import parse_progress
from runners import task_host
from tasks import example, loudness, scenes, support

FOLDER = Path(__file__).parents[2] / "tasks"
RATE = loudness.SAMPLES_PER_S


@pytest.fixture
def job(tmp_path, monkeypatch):
    for name in ("input", "output"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(f"JOB_{name.upper()}", str(tmp_path / name))
    return tmp_path


@pytest.fixture
def sound(job):
    """Two seconds of a sine at half of full scale, one of silence, half a second of the sine again."""
    if shutil.which("ffmpeg") is None and os.environ.get("CI") != "true":
        pytest.skip("ffmpeg is not installed")
    tone = [round(16384 * math.sin(2 * math.pi * 1000 * n / RATE)) for n in range(2 * RATE)]
    samples = array("h", [*tone, *([0] * RATE), *tone[: RATE // 2]])
    with wave.open(str(job / "input" / "tone.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples.tobytes())
    return "tone.wav"


def test_loudness_of_a_known_sound(job, sound, capfd):
    found = loudness.run(file=sound)
    assert found["duration_s"] == 3.5
    assert found["peak_dbfs"] == pytest.approx(-6.02, abs=0.01)
    # A sine's power is half its amplitude's square; here for 2.5 of 3.5 s.
    assert found["rms_dbfs"] == pytest.approx(10 * math.log10(0.25 / 2 * 2.5 / 3.5), abs=0.01)
    assert found["silences"] == [{"start_s": 2.0, "end_s": 3.0}]
    lines = (job / "output" / "loudness.csv").read_text().splitlines()
    assert len(lines) == found["windows"] + 1 == 8
    assert lines[5] == "2.0,-120.0,-120.0"
    assert parse_progress(capfd.readouterr().out) == 100


@given(st.lists(st.integers(-32768, 32767), min_size=1, max_size=200))
def test_levels_stay_within_what_there_is(samples):
    found = loudness.levels(array("h", samples))
    assert loudness.FLOOR_DBFS <= found.rms_dbfs <= found.peak_dbfs <= 0


@given(st.lists(st.booleans(), max_size=60))
def test_silences_cover_exactly_the_silent_windows(silent):
    found = loudness.silences([-100.0 if quiet else -10.0 for quiet in silent], 0.5, -60.0)
    covered = [any(s["start_s"] <= n / 2 < s["end_s"] for s in found) for n in range(len(silent))]
    assert covered == silent
    assert all(one["end_s"] < two["start_s"] for one, two in pairwise(found))


def test_scores_are_read_and_noise_is_skipped():
    lines = [
        b"lavfi.scd.score=99\n",  # of no frame
        b"frame:0    pts:0       pts_time:0\n",
        b"lavfi.scd.score=0.000\n",
        b"something else\n",
        b"frame:100  pts:51200   pts_time:4\n",
        b"lavfi.scd.score=24.500\n",
        b"frame:101  pts:51712   pts_time:4.04",
    ]
    assert list(scenes.scored_frames(lines)) == [scenes.Cut(0.0, 0.0), scenes.Cut(4.0, 24.5)]


def test_example_describes_its_inputs(job, capsys):
    contents = {"a.txt": b"first", "b.bin": bytes(3_000_000)}
    for name, data in contents.items():
        (job / "input" / name).write_bytes(data)
    found = example.run(algorithm="sha512")
    assert found["files"] == [
        {"name": name, "bytes": len(data), "digest": hashlib.sha512(data).hexdigest()}
        for name, data in contents.items()
    ]
    assert parse_progress(capsys.readouterr().out) == 100


@pytest.mark.parametrize("algorithm", ["md5", "", None, ["sha256"]])
def test_example_refuses_other_algorithms(job, algorithm):
    with pytest.raises(ValueError, match=r"algorithm: .* is none of sha256"):
        example.run(algorithm=algorithm)


@pytest.mark.parametrize("name", ["", ".", "..", "../secret", "/etc/passwd", "a\0b", None, 3])
def test_an_input_is_a_plain_name(job, name):
    with pytest.raises(ValueError, match="is not the name of an input"):
        support.input_file(name)


def test_a_missing_input_is_told_with_those_that_are_there(job):
    (job / "input" / "film.mp4").touch()
    with pytest.raises(FileNotFoundError, match=r"no input 'flim.mp4'; its inputs: film\.mp4"):
        support.input_file("flim.mp4")


@pytest.mark.parametrize("value", [0, 61, True, "1", None, math.nan, math.inf])
def test_a_number_is_one_in_its_range(value):
    with pytest.raises(ValueError, match="window_s: a number from 1 to 60 is needed"):
        support.number("window_s", value, low=1, high=60)


@pytest.mark.parametrize(
    ("run", "lacks"), [(loudness.run, "not a media file"), (scenes.run, "has no picture")]
)
def test_what_is_no_film_is_refused(job, sound, run, lacks):
    (job / "input" / "text.mp4").write_text("not a film")
    with pytest.raises(ValueError, match=lacks):
        run(file="text.mp4" if run is loudness.run else sound)


def test_ffmpeg_s_failure_is_the_task_s(job, sound):
    with (
        pytest.raises(RuntimeError, match=r"tone\.wav: ffmpeg ended with code"),
        support.decoding(job / "input" / sound, "-f", "no-such-format") as data,
    ):
        assert data.read() == b""


def test_leaving_early_ends_ffmpeg(job, sound):
    with support.decoding(job / "input" / sound, "-f", "s16le") as data:
        assert len(data.read(1000)) == 1000


@given(st.lists(st.integers(0, 50), max_size=20))
def test_progress_never_goes_back_and_is_understood(steps):
    lines = []
    progress = support.Progress(100, tell=lines.append)
    for step in steps:
        progress.advance(step)
    told = [parse_progress(line) for line in lines]
    assert None not in told
    assert told == sorted(set(told))
    assert parse_progress("\n".join(lines)) == (min(100, sum(steps)) if steps else None)


def test_without_a_total_no_progress_is_told(capsys):
    support.Progress(0).advance(10)
    assert capsys.readouterr().out == ""


def host(job, task, **params):
    """Run the task as the daemon does, but for the sandbox."""
    description = {
        "task": task,
        "params": params,
        "paths": [str(FOLDER)],
        "result": str(job / "output" / "result.json"),
        "result_bytes_max": 1024 * 1024,
    }
    (job / "task.json").write_text(json.dumps(description))
    command = [sys.executable, "-I", task_host.__file__, str(job / "task.json")]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=job)


def test_a_task_runs_in_the_task_host(job):
    (job / "input" / "a.txt").write_bytes(b"x")
    ended = host(job, "example")
    assert ended.returncode == 0, ended.stderr
    assert json.loads((job / "output" / "result.json").read_text())["bytes"] == 1


@pytest.mark.parametrize(
    ("task", "params", "said"),
    [
        ("support", {}, "has no function run"),
        ("loudness", {}, "missing a required argument: 'file'"),
        ("scenes", {"file": "x", "treshold": 3}, "unexpected keyword argument 'treshold'"),
    ],
)
def test_what_is_no_such_task_is_refused(job, task, params, said):
    ended = host(job, task, **params)
    assert ended.returncode == task_host.EXIT_REFUSED
    assert said in ended.stderr
