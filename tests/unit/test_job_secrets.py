"""A job's secrets are taken out of its log, and a log that can't be cleaned is not kept."""

import asyncio
import shutil
import subprocess
import sys
import time
from pathlib import Path

from pydantic import SecretStr

from fsm_miner.site.job_secrets import WITHHELD_LOG, JobSecrets
from fsm_miner.supervisor import key_of
from states.job import Job
from tests.support.cli_journal import without_rights

ROOT = Path(__file__).parents[2]
JOB = Job(job_id="j", manifest={"secret_names": ["KEY"]})


def knowing(value):
    secrets = JobSecrets()
    secrets.keep(key_of(JOB), {"KEY": SecretStr(value)})
    return secrets


def test_what_is_shown_and_what_is_kept_is_without_them(tmp_path):
    log = tmp_path / "exec.log"
    log.write_text("key: hunter2!\n")
    secrets = knowing("hunter2!")
    assert secrets.log_tail(JOB)(log) == "key: [redacted]\n"
    assert secrets.words(JOB, "a hunter2!") == "a [redacted]"
    asyncio.run(secrets.clean_log(JOB, log))
    assert log.read_text() == "key: [redacted]\n"
    secrets.forget(JOB)
    assert secrets.of(JOB) == {}
    assert secrets.log_tail(JOB)(log) == secrets.words(JOB, "words") == ""
    asyncio.run(secrets.clean_log(JOB, log))
    assert log.read_text() == WITHHELD_LOG


def test_new_secrets_of_a_job_take_the_place_of_the_old(tmp_path):
    log = tmp_path / "exec.log"
    log.write_text("hunter2! and hunter3!\n")
    secrets = knowing("hunter2!")
    assert secrets.log_tail(JOB)(log) == "[redacted] and hunter3!\n"
    secrets.keep(key_of(JOB), {"KEY": SecretStr("hunter3!")})
    assert secrets.log_tail(JOB)(log) == "hunter2! and [redacted]\n"


def test_long_secrets_are_prepared_once_and_not_before_a_thread_needs_them(tmp_path):
    log = tmp_path / "exec.log"
    log.write_bytes(b"z" * 10_000)
    secrets = knowing("'\" $" * 30_000)
    began = time.process_time()
    for _ in range(1000):
        secrets.log_tail(JOB)
    read = secrets.log_tail(JOB)
    for _ in range(20):
        assert read(log) == "z" * 8192
    # Prepared once it takes half a second; each time, several.
    assert time.process_time() - began < 3


def test_a_log_that_can_not_be_written_is_removed(tmp_path):
    log = tmp_path / "exec.log"
    shutil.copy(shutil.which("sleep"), log)
    running = subprocess.Popen([log, "60"])  # Linux lets nobody write to it meanwhile
    try:
        asyncio.run(JobSecrets().clean_log(JOB, log))
    finally:
        running.kill()
        running.wait()
    assert not log.exists()


_CLEAN = """
import asyncio, sys
from pathlib import Path
from tests.unit.test_job_secrets import JOB, knowing
asyncio.run(knowing("hunter2!").clean_log(JOB, Path(sys.argv[1])))
"""


def test_a_log_whose_permissions_the_job_took_away_is_cleaned_as_well(tmp_path):
    log = tmp_path / "exec.log"
    log.write_text("key: hunter2!\n")
    log.chmod(0)
    subprocess.run([*without_rights(), sys.executable, "-c", _CLEAN, log], check=True, cwd=ROOT)
    assert log.read_text() == "key: [redacted]\n"


def test_a_log_that_marks_would_make_much_larger_is_withheld(tmp_path):
    """A job with a secret of one letter must not fill the disk by its log's clean copy."""
    log = tmp_path / "exec.log"
    log.write_bytes(b"ab" * 200_000)
    asyncio.run(knowing("a").clean_log(JOB, log))
    assert log.read_text() == WITHHELD_LOG
    assert [path.name for path in tmp_path.iterdir()] == ["exec.log"]
