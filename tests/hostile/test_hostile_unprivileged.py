"""The same attacks under a daemon that is no root, as the units run it: then nothing that root owns is the job's."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.support.needs import lacking

ROOT = Path(__file__).parents[2]
NOBODY = 65534


@pytest.mark.skipif(os.geteuid() != 0, reason="all of the suite runs as such a user already")
@pytest.mark.timeout(900)
def test_every_attack_is_held_by_an_unprivileged_daemon_as_well():
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        lacking("setpriv is missing: apt install util-linux")
    with tempfile.TemporaryDirectory() as home:  # not tmp_path: pytest closes the folders above it for others
        os.chown(home, NOBODY, NOBODY)
        user = [setpriv, f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        env = {**os.environ, "HOME": home, "TMPDIR": home}
        env.pop("PYTEST_XDIST_WORKER", None)
        # setpriv itself still has root's rights when it starts what it is to start.
        python = [*user, "/usr/bin/env", sys.executable]
        readable = subprocess.run(
            [*python, "-c", "import fsm_miner, tests"], cwd=ROOT, env=env, capture_output=True, check=False
        )
        if readable.returncode != 0:
            pytest.skip(f"{ROOT} or {sys.executable} is not to be read by other users")
        options = ["-q", "-p", "no:cacheprovider", "--basetemp", f"{home}/tests"]
        done = subprocess.run(
            [*python, "-m", "pytest", *options, "tests/hostile/test_hostile_jobs.py"],
            cwd=ROOT,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stdout[-6000:]
    assert " passed" in done.stdout
