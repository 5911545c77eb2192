"""Telling a daemon to drain: never a process that does not listen, never past the time, never in vain."""

import os
import signal
import stat
from contextlib import closing

import pytest

from fsm_miner.cli.drain import Watch, drained
from fsm_miner.cli.outcome import ExitCode, Refused
from fsm_miner.cli.running import catches, listen_url
from fsm_miner.config import parse_config
from fsm_miner.instance import Instance, Running, find_running

PAGE = {"draining": True, "registered": True, "pull_held_back": "draining", "jobs": []}


@pytest.mark.parametrize(
    ("more", "end"),
    [
        ({}, True),
        ({"draining": False}, False),
        ({"jobs": [{"job_id": "j-1", "state": "RUNNING"}]}, False),
        ({"pull_held_back": None}, False),
        ({"pull_held_back": None, "registered": False}, True),
    ],
)
def test_drained_is_only_who_can_get_no_job_any_more(more, end):
    assert drained(PAGE | more) is end


def config(tmp_path, listen="null"):
    text = (
        "coordinator: {base_url: 'https://c.example', auth_token: 'env:X'}\nnode_id: n\n"
        f"journal: {{path: {tmp_path}/journal.db}}\nhealth: {{listen: {listen}}}\n"
    )
    return parse_config(text, "config.yaml", tmp_path)


@pytest.fixture
def watch(tmp_path):
    """A watch on this very process, which holds the lock of a state folder; the clock moves when it sleeps."""
    now = [0.0]
    sent = []

    def sleep(seconds):
        now[0] += seconds

    def make(error=None):
        def kill(pid, number):
            if error is not None:
                raise error
            sent.append((pid, number))

        return Watch(
            config(tmp_path), Running(os.getpid(), None, os.getuid()), lambda: now[0], sleep, kill
        ), sent

    (tmp_path / "daemon.lock").touch(0o644)
    instance = Instance(tmp_path)
    assert stat.S_IMODE(instance.path.stat().st_mode) == 0o600  # who can read it can lock it
    yield make
    instance.close()


def test_a_process_that_does_not_listen_is_not_signalled(watch):
    one, sent = watch()
    assert not catches(os.getpid(), signal.SIGUSR2)
    with pytest.raises(Refused, match="does not listen to SIGUSR2") as refused:
        one.tell(signal.SIGUSR2)
    assert refused.value.code is ExitCode.NO
    assert sent == []


def test_a_process_that_listens_is_told(watch):
    one, sent = watch()
    assert catches(os.getpid(), signal.SIGINT)
    one.tell(signal.SIGINT)
    assert sent == [(os.getpid(), signal.SIGINT)]


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (PermissionError(), ExitCode.HOST, "sudo fsm-miner drain"),
        (ProcessLookupError(), ExitCode.NO, "has just ended"),
    ],
)
def test_why_it_could_not_be_told(watch, error, code, words):
    one, _ = watch(error)
    with pytest.raises(Refused, match=words) as refused:
        one.tell(signal.SIGINT)
    assert refused.value.code is code


def test_whoever_may_write_the_lock_does_not_choose_whom_root_signals(tmp_path):
    sent = []
    owner = os.getuid() + 1
    named = Watch(
        config(tmp_path),
        Running(os.getpid(), None, owner),
        lambda: 0.0,
        lambda _: None,
        lambda *one: sent.append(one),
    )
    with pytest.raises(Refused, match="which is not of the user that the file belongs to") as refused:
        named.tell(signal.SIGINT)
    assert (refused.value.code, sent) == (ExitCode.HOST, [])


def test_a_pipe_in_place_of_the_lock_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "daemon.lock")
    assert find_running(tmp_path) is None


def test_a_lock_file_of_brackets_names_nobody(tmp_path):
    with closing(Instance(tmp_path)) as instance:
        instance.path.write_bytes(b"[" * 4096)
        assert find_running(tmp_path) is None


def test_a_daemon_that_is_gone_is_noticed(tmp_path):
    gone = Watch(config(tmp_path), Running(2**22 + 1, None, os.getuid()), lambda: 0.0, lambda _: None)
    with pytest.raises(Refused, match="has ended meanwhile"):
        gone.tell(signal.SIGUSR1)


def test_a_process_that_is_not_there_catches_nothing(tmp_path):
    assert not catches(1, 10, tmp_path)
    (tmp_path / "1").mkdir()
    (tmp_path / "1/status").write_text("Name:\tx\nSigCgt:\t0000000000000200\n")
    assert catches(1, 10, tmp_path)
    assert not catches(1, 12, tmp_path)


@pytest.mark.parametrize(
    ("listen", "url"),
    [
        ("null", None),
        ("127.0.0.1:0", None),
        ("127.0.0.1:9", "http://127.0.0.1:9"),
        ("'[::1]:9'", "http://[::1]:9"),
    ],
)
def test_where_the_configuration_puts_the_page(tmp_path, listen, url):
    assert listen_url(config(tmp_path, listen)) == url
