"""When a run ended and how, whoever looks, and however wrong the clocks and the disk are."""

import errno
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsm_miner.site.endings import End, ended_ns, read_end
from runners.log import RunLog
from runners.run import RunFiles
from runners.wait import Ended
from states.stimuli import How

SECOND = 1_000_000_000
TIMES = st.integers(0, 2**40 * SECOND // 10**6)


def files_at(folder, written_ns):
    status = folder / "run-1.status"
    if written_ns is not None:
        status.touch()
        os.utime(status, ns=(written_ns, written_ns))
    return RunFiles(folder / "run-1.lock", status, RunLog(folder / "log"), folder, folder)


@pytest.mark.parametrize(
    ("code", "how", "written_s", "now_s", "ended_s"),
    [
        (0, How.EXITED, 30, 90, 30),
        (137, How.OUT_OF_MEMORY, 30, 90, 30),
        (0, How.EXITED, 5, 90, 10),  # before it began
        (0, How.EXITED, 95, 90, 90),  # not over yet
        (0, How.EXITED, 5, 8, 10),  # a clock that was set back to before its start
        (0, How.EXITED, None, 90, 90),
        (None, How.TIMED_OUT, 30, 90, 73),
        (None, How.TIMED_OUT, 30, 71, 71),
        (None, How.LOST, 30, 90, 90),
        (None, How.OUT_OF_MEMORY, 30, 90, 90),
    ],
)
def test_when_it_ended(tmp_path, code, how, written_s, now_s, ended_s):
    files = files_at(tmp_path, None if written_s is None else written_s * SECOND)
    found = ended_ns(files, Ended(code), how, started_ns=10 * SECOND, now_ns=now_s * SECOND, backstop_s=63.0)
    assert found == ended_s * SECOND


@given(TIMES, TIMES, TIMES, st.sampled_from([(0, How.EXITED), (None, How.TIMED_OUT), (None, How.LOST)]))
def test_never_before_its_start_and_never_in_the_future(tmp_path_factory, written, started, now, end):
    files = files_at(tmp_path_factory.getbasetemp(), written)
    found = ended_ns(files, Ended(end[0]), end[1], started_ns=started, now_ns=now, backstop_s=5.0)
    assert started <= found <= max(started, now)


def test_a_log_that_can_not_be_read_does_not_keep_a_run_from_ending(tmp_path):
    def broken(_log):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    def look(log_tail):
        files = files_at(tmp_path, SECOND)
        return read_end(files, Ended(3), log_tail, same_boot=True, elapsed_s=1.0, time_limit_s=60.0)

    assert look(broken) == End(How.EXITED, 3, detail="its log can't be read: Input/output error")
    assert look(lambda _log: "up\n") == End(How.EXITED, 3, detail="its last line: up")
