"""A job's secrets are taken out of its log, and a log that can't be cleaned is not kept."""

import asyncio
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from pydantic import SecretStr

from fsm_miner.redaction import Redactor
from fsm_miner.site.job_secrets import WITHHELD_LOG, JobSecrets
from fsm_miner.supervisor import key_of
from runners.log import MemoryFile, RunLog
from states.job import Job
from tests.support.cli_journal import without_rights

ROOT = Path(__file__).parents[2]
JOB = Job(job_id="j", manifest={"secret_names": ["KEY"]})


def knowing(value):
    secrets = JobSecrets()
    secrets.keep(key_of(JOB), {"KEY": SecretStr(value)})
    return secrets


def holding(folder, content):
    """Return a log in memory that a run has written to."""
    log = RunLog(folder / "exec.log", MemoryFile())
    written = log.memory.open_for_run()
    os.write(written, content)
    os.close(written)
    return log


def test_what_is_shown_and_what_is_kept_is_without_them(tmp_path):
    log = holding(tmp_path, b"key: hunter2!\n")
    secrets = knowing("hunter2!")
    assert secrets.log_tail(JOB)(log) == "key: [redacted]\n"
    assert secrets.words(JOB, "a hunter2!") == "a [redacted]"
    for _ in range(2):  # again, where the first time did not get into the journal
        asyncio.run(secrets.clean_log(JOB, log))
        assert log.path.read_text() == "key: [redacted]\n"
    secrets.forget(JOB)
    assert secrets.of(JOB) == {}
    assert secrets.log_tail(JOB)(log) == secrets.words(JOB, "words") == ""


@pytest.mark.parametrize("secrets", [JobSecrets(), knowing("hunter2!")], ids=["forgotten", "told again"])
def test_of_a_log_that_went_with_a_daemon_it_says_so(tmp_path, secrets):
    log = RunLog(tmp_path / "exec.log")
    asyncio.run(secrets.clean_log(JOB, log))
    assert log.path.read_text() == WITHHELD_LOG


def test_a_log_that_an_older_version_left_on_the_disk_is_withheld_if_they_are_forgotten(tmp_path):
    log = RunLog(tmp_path / "exec.log")
    log.path.write_text("key: hunter2!\n")
    asyncio.run(JobSecrets().clean_log(JOB, log))
    assert log.path.read_text() == WITHHELD_LOG


def test_the_log_of_a_job_without_secrets_is_left_alone(tmp_path):
    log = RunLog(tmp_path / "exec.log")
    log.path.write_text("up\n")
    asyncio.run(JobSecrets().clean_log(Job(job_id="j"), log))
    assert log.path.read_text() == "up\n"


def test_a_file_in_memory_is_closed_with_who_reads_it_last(tmp_path):
    log = holding(tmp_path, b"up\n")
    fd = log.memory.fd
    reading = knowing("x!").log_tail(JOB), log
    del log
    assert reading[0](reading[1]) == "up\n"
    del reading
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_new_secrets_of_a_job_take_the_place_of_the_old(tmp_path):
    log = holding(tmp_path, b"hunter2! and hunter3!\n")
    secrets = knowing("hunter2!")
    assert secrets.log_tail(JOB)(log) == "[redacted] and hunter3!\n"
    secrets.keep(key_of(JOB), {"KEY": SecretStr("hunter3!")})
    assert secrets.log_tail(JOB)(log) == "hunter2! and [redacted]\n"


def test_long_secrets_are_prepared_once_and_not_before_a_thread_needs_them(tmp_path):
    log = holding(tmp_path, b"z" * 10_000)
    secrets = knowing("'\" $" * 30_000)
    began = time.process_time()
    for _ in range(1000):
        secrets.log_tail(JOB)
    read = secrets.log_tail(JOB)
    for _ in range(20):
        assert read(log) == "z" * 8192
    # Prepared once it takes half a second; each time, several.
    assert time.process_time() - began < 3


def test_a_log_in_whose_place_no_clean_one_can_be_put_is_removed(tmp_path):
    log = RunLog(tmp_path / "exec.log")
    log.path.write_text("key: hunter2!\n")
    (tmp_path / "exec.log.clean").mkdir()  # stands in the way
    asyncio.run(knowing("hunter2!").clean_log(JOB, log))
    assert not log.path.exists()


_CLEAN = """
import asyncio, sys
from pathlib import Path
from tests.unit.test_job_secrets import JOB, knowing
from runners.log import RunLog
asyncio.run(knowing("hunter2!").clean_log(JOB, RunLog(Path(sys.argv[1]))))
"""


def test_a_log_whose_permissions_the_job_took_away_is_cleaned_as_well(tmp_path):
    log = tmp_path / "exec.log"
    log.write_text("key: hunter2!\n")
    log.chmod(0)
    subprocess.run([*without_rights(), sys.executable, "-c", _CLEAN, log], check=True, cwd=ROOT)
    assert log.read_text() == "key: [redacted]\n"


def test_a_log_that_marks_would_make_much_larger_is_withheld(tmp_path):
    """A job with a secret of one letter must not fill the disk by its log's clean copy."""
    log = holding(tmp_path, b"ab" * 200_000)
    asyncio.run(knowing("a").clean_log(JOB, log))
    assert log.path.read_text() == WITHHELD_LOG
    assert [path.name for path in tmp_path.iterdir()] == ["exec.log"]


def test_cleaning_ends_when_the_daemon_does(tmp_path, monkeypatch):
    log = holding(tmp_path, b"key: hunter2!\n" * 100_000)
    secrets = knowing("hunter2!")
    began, go_on = threading.Event(), threading.Event()
    spans = Redactor.spans

    def slow(self, data):
        began.set()
        assert go_on.wait(20)
        return spans(self, data)

    monkeypatch.setattr(Redactor, "spans", slow)

    async def go():
        cleaning = asyncio.create_task(secrets.clean_log(JOB, log))
        assert await asyncio.to_thread(began.wait, 20)
        cleaning.cancel()
        await asyncio.sleep(0)
        go_on.set()
        await asyncio.gather(cleaning, return_exceptions=True)

    asyncio.run(go())
    assert log.path.read_text() == WITHHELD_LOG
