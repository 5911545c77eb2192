import os
from pathlib import Path

import pytest

from runners.lock import AlreadyStarted, LockState, create_locked, look
from runners.log import RunLog
from runners.run import RunFiles
from runners.status import LaunchFacts, Status, launch_line, parse_status, read_status
from runners.verdict import (
    Exited,
    Lost,
    OutOfMemory,
    SandboxFailed,
    Signalled,
    TimedOut,
    chain_failure,
    verdict,
)

FACTS = LaunchFacts(at_ns=1, boottime_ns=2, boot_id="b-1", log_offset=3)


def test_a_whole_status():
    text = launch_line(FACTS) + b'{ "child-pid": 77, "pid-namespace": 4026532181 }\n{ "exit-code": 3 }\n'
    assert parse_status(text) == Status(launched=FACTS, child_pid=77, pid_namespace=4026532181, exit_code=3)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b'{ "exit-code": 0 }',  # cut off: the line has no end
        b'{ "exit-code": "0" }\n',
        b'{ "exit-code": true }\n',
        b'{ "exit-code": 256 }\n',
        b'{ "exit-code": -1 }\n',
        b'{ "child-pid": 1 }\n',
        b'{ "child-pid": 99999999999 }\n',
        b'[{"exit-code": 0}]\n',
        b"\xff\xfe\n\0\n",
        b"[" * 60_000 + b"\n",
        b'{"launched-at-ns": 1}\n',
    ],
)
def test_what_is_not_plainly_said_is_unknown(text):
    assert parse_status(text) == Status()


def test_the_first_word_counts():
    assert parse_status(b'{ "exit-code": 1 }\n{ "exit-code": 0 }\n').exit_code == 1


def test_an_absent_status_tells_nothing(tmp_path):
    assert read_status(tmp_path / "run-1.status") == Status()


def test_a_status_is_read_bounded(tmp_path):
    path = tmp_path / "run-1.status"
    path.write_bytes(b"x" * 100_000 + b'\n{ "exit-code": 0 }\n')
    assert read_status(path) == Status()


def test_a_status_that_is_a_link_is_not_followed(tmp_path):
    (tmp_path / "real").write_bytes(b'{ "exit-code": 0 }\n')
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(OSError, match="symbolic"):
        read_status(tmp_path / "link")


def test_a_lock_lives_as_long_as_one_of_its_two_descriptors(tmp_path):
    path = tmp_path / "run-1.lock"
    assert look(path) is LockState.ABSENT
    first, second = create_locked(path)
    assert look(path) is LockState.HELD
    os.close(first)
    assert look(path) is LockState.HELD
    os.close(second)
    assert look(path) is LockState.FREE


def test_a_lock_is_made_once(tmp_path):
    path = tmp_path / "run-1.lock"
    for fd in create_locked(path):
        os.close(fd)
    with pytest.raises(AlreadyStarted, match=r"run-1\.lock"):
        create_locked(path)


@pytest.mark.parametrize(
    ("exit_code", "changes", "found"),
    [
        (0, {}, Exited(0)),
        (128, {}, Exited(128)),
        (137, {}, Signalled(9)),
        (255, {}, Exited(255)),
        (0, {"elapsed_s": 11}, Exited(0)),
        (137, {"oom_killed": True}, OutOfMemory()),
        (None, {"oom_killed": True}, OutOfMemory()),
        (None, {}, Lost()),
        (None, {"elapsed_s": 10}, TimedOut()),
        (None, {"elapsed_s": 11, "same_boot": False}, Lost()),
        (None, {"failure": "bwrap: no"}, SandboxFailed("bwrap: no")),
        (1, {"failure": "bwrap: no"}, Exited(1)),
    ],
)
def test_verdicts(exit_code, changes, found):
    facts = {"oom_killed": False, "same_boot": True, "elapsed_s": 1.0, "time_limit_s": 10.0, **changes}
    assert verdict(exit_code, **facts) == found


@pytest.mark.parametrize(
    ("log", "found"),
    [
        (
            b"old\nbwrap: execvp /x: No such file or directory\n",
            "bwrap: execvp /x: No such file or directory",
        ),
        (b"old\n/usr/bin/timeout: failed to run command\n", "/usr/bin/timeout: failed to run command"),
        (b"old\nsh: 1: cannot create /cg/cgroup.procs", "sh: 1: cannot create /cg/cgroup.procs"),
        (b"old\nhello\nbwrap: x\n", None),
        (b"bwrap: of an earlier run\n", None),
        (b"old\n", None),
        (b"", None),
    ],
)
def test_only_what_the_chain_says_first_is_its_failure(tmp_path, log, found):
    path = tmp_path / "exec.log"
    path.write_bytes(log)
    files = RunFiles(tmp_path, tmp_path, RunLog(path), tmp_path, tmp_path)
    offset = len(b"bwrap: of an earlier run\n") if b"earlier" in log else 4
    assert chain_failure(files, LaunchFacts(1, 2, "b", offset)) == found


@pytest.mark.parametrize(("why", "lost"), [("Directory nonexistent", True), ("Permission denied", False)])
def test_a_cgroup_that_was_taken_away_as_it_was_entered_is_no_fault_of_the_sandbox(tmp_path, why, lost):
    log, cgroup = tmp_path / "exec.log", Path("/sys/fs/cgroup/jobs.service/j-1.run-1")
    log.write_text(f"sh: 1: cannot create {cgroup}/cgroup.procs: {why}\n")
    files = RunFiles(tmp_path, tmp_path, RunLog(log), tmp_path, tmp_path, cgroup)
    assert (chain_failure(files, LaunchFacts(1, 2, "b", 0)) is None) is lost


def test_no_log_and_no_launch_are_no_failure(tmp_path):
    files = RunFiles(tmp_path, tmp_path, RunLog(tmp_path / "exec.log"), tmp_path, tmp_path)
    assert chain_failure(files, FACTS) is None
    assert chain_failure(files, None) is None
