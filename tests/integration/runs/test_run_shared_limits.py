"""What the kernel counts by user: one job can use it up, and others of the same user must start all the same."""

import os

import pytest

# A job that takes all the pages that its user may have in pipes; then another, whose options need a large pipe.
PIPES = """
import asyncio, os, sys
from pathlib import Path
from runners.host import probe_host
from runners.launch import launch
from runners.run import Limits, RunPaths, RunSpec
from runners.wait import wait_end
TAKES = '''
import fcntl, os
pipes = []
try:
    while True:
        pipes.append(os.pipe())
        fcntl.fcntl(pipes[-1][0], fcntl.F_SETPIPE_SZ, 1 << 20)
except PermissionError:
    print("taken", flush=True)
open("input.fifo").read()
'''
def spec(name, *argv, **env):
    base = Path(sys.argv[1]) / name
    for part in ("work", "input", "output", "logs", "control"):
        (base / part).mkdir(parents=True)
    paths = RunPaths(base / "work", base / "input", base / "output", base / "logs/exec.log", base / "control")
    return RunSpec(name, 1, argv, env, paths, Limits(60, 1, 256, 10, 10))
async def main():
    host = probe_host()
    taker = spec("taker", "/usr/bin/python3", "-c", TAKES)
    fifo = taker.paths.work / "input.fifo"
    os.mkfifo(fifo)
    taking = launch(taker, host)
    while not taker.paths.log.exists() or "taken" not in taker.paths.log.read_text():
        await asyncio.sleep(0.01)
    other = spec("other", "/bin/sh", "-c", "echo ${#LARGE}", LARGE="x" * 100_000)
    started = launch(other, host)
    print(await wait_end(started.files, child=started.pid), other.paths.log.read_text())
    fifo.write_text("go")
    await wait_end(taking.files, child=taking.pid)
asyncio.run(main())
"""


@pytest.mark.skipif(
    os.geteuid() != 0, reason="the limit does not bind root, so it takes another user to try it"
)
def test_a_job_that_takes_all_of_its_users_pipes_keeps_no_other_from_starting(as_nobody):
    done, _ = as_nobody(PIPES)
    assert done.stdout == b"Ended(exit_code=0) 100000\n\n", done.stderr
