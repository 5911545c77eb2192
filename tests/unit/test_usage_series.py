"""What a run used over time: written by the watch, bounded, and read back however hostile the file is."""

import json
import os
import subprocess
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsm_miner.forensics.samples import RUNS_MAX, read_samples
from runners.meter import UsageMeter
from runners.run import RunFiles
from runners.series import BYTES_MAX, LINES_MAX, UsageSeries, parse_lines
from tests.support.needs import lacking

MIB = 1024 * 1024
SECOND = 1_000_000_000


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "control").mkdir()
    return tmp_path


class Clock:
    def __init__(self, at_ns=SECOND):
        self.at_ns = at_ns

    def __call__(self):
        return self.at_ns


def series_of(folder, clock, run=1):
    return UsageSeries(folder / "control" / f"run-{run}.usage.jsonl", run, clock)


def looks(folder, clock, number, step_ns=SECOND // 2, memory=lambda n: n):
    """That many ticks of a watch; returns how many of them were written down."""
    series, written = series_of(folder, clock), 0
    for n in range(number):
        clock.at_ns += step_ns
        if series.due():
            series.add(n / 10, memory(n) * MIB, n * MIB)
            written += 1
    return written


def test_what_is_seen_is_read_back(folder):
    clock = Clock()
    looks(folder, clock, 3)
    assert [(s.run, s.at_ns, s.cpu_s, s.memory_mb, s.disk_mb) for s in read_samples(folder)] == [
        (1, SECOND + n * SECOND // 2, (n - 1) / 10, n - 1, n - 1) for n in (1, 2, 3)
    ]


def files_of(folder, run=1):
    control = folder / "control"
    return RunFiles(
        control / f"run-{run}.lock", control / f"run-{run}.status", folder / "log", folder, folder, None
    )


def test_whoever_saw_nothing_of_a_run_takes_what_was_written_down_of_it(folder):
    looks(folder, Clock(), 3, memory=lambda n: 3 - n)
    meter = UsageMeter()
    meter.note_series(files_of(folder), 2)
    assert meter.usage.to_json() == {}
    meter.note_series(files_of(folder), 1)
    assert meter.usage.to_json() == {"cpu_s": 0.2, "max_rss_mb": 3.0}


@pytest.mark.parametrize("make", [lambda path: None, os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_without_a_series_nothing_is_known(folder, make):
    make(files_of(folder).usage)
    meter = UsageMeter()
    meter.note_series(files_of(folder), 1)
    assert meter.usage.to_json() == {}


def test_a_new_daemon_goes_on(folder):
    clock = Clock()
    for _ in range(3):
        looks(folder, clock, 2)
    times = [sample.at_ns for sample in read_samples(folder)]
    assert len(times) == 6
    assert times == sorted(times)


@pytest.mark.parametrize("restart_every", [0, 700])
def test_three_days_fit(folder, restart_every):
    clock, ticks = Clock(), 3 * 24 * 3600 // 5  # looking every 5 s, to save the test's time
    peak = ticks // 3
    rounds = [ticks] if not restart_every else [restart_every] * (ticks // restart_every)
    done, written = 0, 0
    for number in rounds:
        written += looks(
            folder, clock, number, 5 * SECOND, lambda n, done=done: 999 if n + done == peak else 1
        )
        done += number
    found = read_samples(folder)
    assert LINES_MAX / 4 <= len(found) <= LINES_MAX
    assert found[0].at_ns < SECOND * 3600
    assert found[-1].at_ns > clock.at_ns - 3600 * SECOND
    gaps = [later.at_ns - earlier.at_ns for earlier, later in pairwise(found)]
    assert max(gaps) < 3600 * SECOND
    # The finer the file was, the more is written: 512 lines, then half of that for each doubling of the time.
    assert written < 12 * LINES_MAX
    assert (folder / "control" / "run-1.usage.jsonl").stat().st_size < BYTES_MAX / 2


def test_a_peak_survives_the_thinning(folder):
    clock = Clock()
    looks(folder, clock, LINES_MAX + 1, memory=lambda n: 999 if n == 101 else 1)
    found = read_samples(folder)
    assert len(found) == LINES_MAX // 2 + 1
    assert max(sample.memory_mb for sample in found) == 999


def test_a_clock_set_back_a_day_or_forth_a_year_ends_nothing(folder):
    clock = Clock(400 * 24 * 3600 * SECOND)
    looks(folder, clock, LINES_MAX + 1)
    for jump in (-24 * 3600 * SECOND, 365 * 24 * 3600 * SECOND):
        clock.at_ns += jump
        assert looks(folder, clock, LINES_MAX) >= LINES_MAX // 4


def test_nothing_raises_where_nothing_can_be_written(folder, tmp_path):
    clock = Clock()
    gone = UsageSeries(tmp_path / "not-there" / "run-1.usage.jsonl", 1, clock)
    gone.add(1.0, 1, 1)
    os.mkfifo(folder / "control" / "run-1.usage.jsonl")
    series_of(folder, clock).add(1.0, 1, 1)
    (folder / "control" / "run-2.usage.jsonl").symlink_to(tmp_path / "elsewhere")
    series_of(folder, clock, 2).add(1.0, 1, 1)
    assert not (tmp_path / "elsewhere").exists()
    assert read_samples(folder) == ()


def test_a_full_disk_leaves_a_line_out_and_the_next_is_whole(folder, full_disk):
    clock = Clock()
    (full_disk / "control").mkdir()
    series = series_of(full_disk, clock)
    series.add(1.0, MIB, 0)
    filler = full_disk / "filler"
    with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        fill(file)
    before = (full_disk / "control" / "run-1.usage.jsonl").stat().st_size
    for n in range(200):  # more than the page that the file has already
        clock.at_ns += SECOND
        series.add(float(n), MIB, 0)
    assert (full_disk / "control" / "run-1.usage.jsonl").stat().st_size <= before + 8192
    filler.unlink()
    clock.at_ns += SECOND
    series.add(777.0, MIB, 0)
    assert read_samples(full_disk)[-1].cpu_s == 777.0


def fill(file):
    while True:
        file.write(bytes(4096))


@pytest.fixture
def full_disk(tmp_path):
    """A small real file system."""
    place = tmp_path / "small"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(place)], capture_output=True, check=False
    )
    if made.returncode != 0:
        lacking(f"a tmpfs can't be mounted: {made.stderr!r}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


GOOD = {"run": 1, "at_ns": 5, "cpu_s": 1.5, "memory_mb": 2.5, "disk_mb": 0}


@pytest.mark.parametrize(
    "change",
    [
        {"run": 2},
        {"run": "1"},
        {"run": True},
        {"at_ns": -1},
        {"at_ns": 1 << 63},
        {"at_ns": 1.5},
        {"cpu_s": float("nan")},
        {"cpu_s": float("inf")},
        {"memory_mb": -1},
        {"memory_mb": "<script>"},
        {"disk_mb": None},
        {"disk_mb": 10**400},
    ],
)
def test_a_bad_line_is_left_out(folder, change):
    lines = [json.dumps(GOOD), json.dumps(GOOD | change), json.dumps(GOOD | {"at_ns": 6})]
    (folder / "control" / "run-1.usage.jsonl").write_text("\n".join(lines) + "\n")
    assert [sample.at_ns for sample in read_samples(folder)] == [5, 6]


@given(st.binary(max_size=400) | st.lists(st.just(json.dumps(GOOD).encode()) | st.binary()).map(b"\n".join))
def test_any_bytes_are_read_without_a_complaint(data):
    for line in parse_lines(data):
        assert line["cpu_s"] >= 0


def test_a_file_of_any_length_and_any_number_of_runs_is_bounded(folder):
    line = json.dumps(GOOD).encode() + b"\n"
    (folder / "control" / "run-1.usage.jsonl").write_bytes(line * 100_000)
    assert len(read_samples(folder)) <= LINES_MAX
    for run in range(2, RUNS_MAX * 2):
        (folder / "control" / f"run-{run}.usage.jsonl").write_text(json.dumps(GOOD | {"run": run}))
    assert {sample.run for sample in read_samples(folder)} == set(range(RUNS_MAX, RUNS_MAX * 2))


def test_deep_nesting_is_a_bad_line(folder):
    (folder / "control" / "run-1.usage.jsonl").write_text("[" * 400 + "\n" + json.dumps(GOOD))
    assert len(read_samples(folder)) == 1


def test_no_folder_no_samples(tmp_path):
    assert read_samples(tmp_path / "gone") == ()
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "control").symlink_to(tmp_path)
    assert read_samples(tmp_path / "job") == ()
