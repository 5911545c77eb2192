"""What the kernel counts by user: one job can use it up, and others of the same user must start all the same."""

import os

import pytest

TWO_JOBS = """
import asyncio, os, resource, sys
from pathlib import Path
from runners.egress import open_listener
from runners.host import probe_host
from runners.launch import launch
from runners.run import Limits, RunPaths, RunSpec
from runners.wait import wait_end
def spec(name, code, egress=False, **env):
    base = Path(sys.argv[1]) / name
    for part in ("work", "input", "output", "logs", "control"):
        (base / part).mkdir(parents=True)
    paths = RunPaths(base / "work", base / "input", base / "output", base / "logs/exec.log", base / "control")
    argv = ("/usr/bin/python3", "-c", code)
    return RunSpec(name, 1, argv, env, paths, Limits(60, 1, 256, 10, 10), egress=egress)
async def main():
    host = probe_host()
    taker = spec("taker", TAKES + "print('taken', flush=True); open('input.fifo').read()")
    fifo = taker.paths.work / "input.fifo"
    os.mkfifo(fifo)
    taking = launch(taker, host)
    while not taker.paths.log.exists() or "taken" not in taker.paths.log.read_text():
        await asyncio.sleep(0.01)
    await other(host)
    fifo.write_text("go")
    await wait_end(taking.files, child=taking.pid)
"""

# A job that takes all the pages that its user may have in pipes; then another, whose options need a large pipe.
PIPES = (
    TWO_JOBS
    + """
TAKES = '''
import fcntl, os
pipes = []
try:
    while True:
        pipes.append(os.pipe())
        fcntl.fcntl(pipes[-1][0], fcntl.F_SETPIPE_SZ, 1 << 20)
except PermissionError:
    pass
'''
async def other(host):
    needing = spec("other", "import os; print(len(os.environ['LARGE']))", LARGE="x" * 100_000)
    started = launch(needing, host)
    print(await wait_end(started.files, child=started.pid), needing.paths.log.read_text())
asyncio.run(main())
"""
)

# A job that has as many descriptors on their way through sockets as it may; then another, which needs one to be sent.
ON_THEIR_WAY = (
    TWO_JOBS
    + """
TAKES = '''
import errno, os, socket
pairs = []
try:
    while True:
        pairs.append(socket.socketpair())
        for _ in range(10):
            socket.send_fds(pairs[-1][0], [b"x"], [0] * 250)
except OSError as error:
    assert error.errno == errno.ETOOMANYREFS, error
'''
async def other(host):
    needing = spec("other", "print('let out')", egress=True)
    started = launch(needing, host)
    listener = await asyncio.to_thread(open_listener, started.files)
    os.close(started.gate)
    print(await wait_end(started.files, child=started.pid), needing.paths.log.read_text())
resource.setrlimit(resource.RLIMIT_NOFILE, (1024, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
asyncio.run(main())
"""
)


@pytest.mark.skipif(
    os.geteuid() != 0, reason="the limits do not bind root, so it takes another user to try them"
)
@pytest.mark.parametrize(
    ("code", "printed"), [(PIPES, "100000"), (ON_THEIR_WAY, "let out")], ids=["pipes", "on their way"]
)
def test_a_job_that_takes_all_that_its_user_has_keeps_no_other_from_starting(as_nobody, code, printed):
    done, _ = as_nobody(code)
    assert done.stdout.decode() == f"Ended(exit_code=0) {printed}\n\n", done.stderr
