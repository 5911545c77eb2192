"""Where lines go when logrotate, a full disk or a missing folder come in between."""

import io
import json
import logging
import os
import stat
from types import SimpleNamespace

import pytest

from fsm_miner.log import configure_logging
from fsm_miner.log_output import LogFile, LogStream, writes_to_journal
from fsm_miner.redaction import Redactor


class Clock:
    """A monotonic clock that moves when told."""

    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def opened(clock):
    """Open log files with the failures they reported, and close them afterwards."""
    files = []

    def run(path):
        failures = []
        file = LogFile(path, clock, failures.append)
        files.append(file)
        return file, failures

    yield run
    for file in files:
        file.close()


def test_lines_are_appended_to_a_file_that_not_everybody_reads(tmp_path, opened):
    path = tmp_path / "miner.jsonl"
    path.write_text("before\n")
    path.chmod(0o640)
    opened(path)[0].write("a")
    new = tmp_path / "new.jsonl"
    opened(new)[0].write("b")
    assert path.read_text() == "before\na\n"
    assert stat.S_IMODE(new.stat().st_mode) & ~0o640 == 0


def test_after_half_a_line_that_a_power_cut_left_the_next_one_starts_on_its_own(tmp_path, opened):
    path = tmp_path / "miner.jsonl"
    path.write_bytes(b'{"event": "whole"}\n{"event": "ha\0\0')
    file, failures = opened(path)
    file.write("next")
    file.write("and so on")
    assert path.read_bytes().splitlines()[1:] == [b'{"event": "ha\0\0', b"next", b"and so on"]
    assert failures == []


def test_a_file_that_logrotate_moved_is_opened_anew_within_a_second(tmp_path, clock, opened):
    path, moved = tmp_path / "miner.jsonl", tmp_path / "miner.jsonl.1"
    file, _ = opened(path)
    file.write("a")
    clock.now_s += 1.0
    file.write("b")
    path.rename(moved)
    clock.now_s += 0.9
    file.write("c")
    clock.now_s += 0.1
    file.write("d")
    assert moved.read_text() == "a\nb\nc\n"
    assert path.read_text() == "d\n"


def test_a_file_that_was_replaced_is_noticed_too(tmp_path, clock, opened):
    path = tmp_path / "miner.jsonl"
    file, _ = opened(path)
    file.write("a")
    path.rename(tmp_path / "old")
    path.write_text("")
    clock.now_s += 1.0
    file.write("b")
    assert path.read_text() == "b\n"


def test_a_signal_opens_the_file_at_once(tmp_path, opened):
    path = tmp_path / "miner.jsonl"
    file, _ = opened(path)
    file.write("a")
    path.rename(tmp_path / "old")
    file.reopen()
    file.write("b")
    assert path.read_text() == "b\n"


def test_copytruncate_leaves_no_hole(tmp_path, opened):
    path = tmp_path / "miner.jsonl"
    file, _ = opened(path)
    file.write("a" * 100)
    os.truncate(path, 0)
    file.write("b")
    assert path.read_bytes() == b"b\n"


def test_a_full_disk_is_said_once_and_counted(tmp_path, opened):
    path = tmp_path / "miner.jsonl"
    path.symlink_to("/dev/full")
    file, failures = opened(path)
    assert [file.write("a"), file.write("b")] == [0, 0]
    assert len(failures) == 1
    assert "No space left" in failures[0]
    assert file.dropped == 2
    path.unlink()
    file.reopen()
    assert file.write("c") == 2
    assert file.write("d") == 0
    assert path.read_text() == "c\nd\n"
    assert file.dropped == 2


def test_after_half_a_line_the_next_one_starts_on_its_own(tmp_path, opened):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        file, failures = opened(path)
        # A pipe takes what fits and refuses the rest, as a disk does that fills up in the middle of a line.
        assert file.write("x" * 1_000_000) == 0
        assert len(failures) == 1
        while True:
            try:
                os.read(reader, 1_000_000)
            except BlockingIOError:
                break
        assert file.write("next") == 1
        assert os.read(reader, 100) == b"\nnext\n"
    finally:
        os.close(reader)


@pytest.mark.parametrize("kind", ["folder", "missing", "fifo"])
def test_what_cannot_be_opened_raises_nothing(tmp_path, opened, kind):
    path = tmp_path / "x"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path = path / "miner.jsonl"
    file, failures = opened(path)
    assert file.write("a") == 0
    assert len(failures) == 1
    assert str(path) in failures[0]


def test_a_closed_file_counts(tmp_path, opened):
    file, _ = opened(tmp_path / "miner.jsonl")
    file.close()
    file.write("a")
    assert file.dropped == 1
    assert not (tmp_path / "miner.jsonl").exists()


def test_a_closed_stream_counts():
    stream = io.StringIO()
    output = LogStream(stream)
    stream.close()
    output.write("a")
    assert output.dropped == 1


def test_the_journal_is_recognised_by_its_socket():
    read, write = os.pipe()
    try:
        status = os.fstat(write)
        with os.fdopen(write, "w", closefd=False) as stream:
            assert writes_to_journal(stream, {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"})
            assert not writes_to_journal(stream, {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino + 1}"})
            assert not writes_to_journal(stream, {})
    finally:
        os.close(read)
        os.close(write)
    assert not writes_to_journal(io.StringIO(), {"JOURNAL_STREAM": "1:2"})


def test_the_journal_gets_priorities_and_no_colour():
    read, write = os.pipe()
    library = logging.Logger("library")
    with os.fdopen(read) as reader:
        with os.fdopen(write, "w") as stderr:
            status = os.fstat(write)
            log = configure_logging(
                SimpleNamespace(level="info", as_json=False, path=None),
                "node-1",
                Redactor(),
                stderr=stderr,
                environ={"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"},
                bridge=library,
            )
            log.logger.error("x", a=1)
            log.close()
        assert reader.read() == "<3>error    x a=1\n"


def test_an_outage_is_told_on_stderr_and_its_end_in_both(tmp_path):
    folder = tmp_path / "log"
    path = folder / "miner.jsonl"
    stderr = io.StringIO()
    log = configure_logging(
        SimpleNamespace(level="info", as_json=True, path=path),
        "node-1",
        Redactor(),
        stderr=stderr,
        environ={},
        bridge=logging.Logger("library"),
    )
    log.logger.info("one")
    log.logger.info("two")
    assert log.dropped == 2
    folder.mkdir()
    log.logger.info("three")
    log.close()
    assert [json.loads(line)["event"] for line in path.read_text().splitlines()] == ["three", "log.resumed"]
    assert json.loads(path.read_text().splitlines()[1])["attrs"] == {"lost_lines": 2}
    said = [line.split()[2] for line in stderr.getvalue().splitlines()]
    assert said == ["one", "log.failing", "two", "three", "log.resumed"]
