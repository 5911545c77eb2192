"""The listener on a run's loopback, held outside: made before the command starts, and anew afterwards."""

import asyncio
import os

import pytest

from fsm_miner.clock import SystemClock, SystemDice
from fsm_miner.site.process import Processes
from runners.egress import EgressFailed, open_listener
from runners.lock import LockState, look
from runners.reserve import DiskReserve
from runners.wait import wait_end
from states.codes import ErrorCode
from states.stimuli import LaunchFailed

ASK = (
    "import socket,sys\n"
    "s = socket.create_connection(('127.0.0.1', 3128), 20)\n"
    "s.sendall(b'from inside'); s.shutdown(1)\n"
    "print(s.makefile().read(), flush=True)\n"
)


def answered(listener):
    listener.settimeout(20)
    with listener, listener.accept()[0] as peer:
        heard = b""
        while part := peer.recv(100):
            heard += part
        peer.sendall(b"from outside")
    return heard


def test_the_command_waits_for_the_listener_and_reaches_it(runs):
    async def go():
        spec = runs.python(ASK, egress=True)
        launched = runs.launch(spec)
        listener = await asyncio.to_thread(open_listener, launched.files)
        assert spec.paths.log.read_text() == ""
        os.close(launched.gate)
        heard = await asyncio.to_thread(answered, listener)
        return heard, await wait_end(launched.files, child=launched.pid), spec.paths.log.read_text()

    heard, ended, log = asyncio.run(go())
    assert (heard, ended.exit_code, log) == (b"from inside", 0, "from outside\n")


def test_it_is_made_anew_for_a_run_that_goes_on(runs):
    async def go():
        spec = runs.python(
            "print('up', flush=True); input_ = open('/job/work/go').read()\n" + ASK, egress=True
        )
        os.mkfifo(spec.paths.work / "go")
        launched = runs.launch(spec)
        first = await asyncio.to_thread(open_listener, launched.files)
        os.close(launched.gate)
        await runs.printed(spec, "up")
        with pytest.raises(EgressFailed, match="in use"):
            await asyncio.to_thread(open_listener, launched.files)
        first.close()
        second = await asyncio.to_thread(open_listener, launched.files)
        await asyncio.to_thread((spec.paths.work / "go").write_text, "go")
        heard = await asyncio.to_thread(answered, second)
        return heard, await wait_end(launched.files, child=launched.pid)

    heard, ended = asyncio.run(go())
    assert (heard, ended.exit_code) == (b"from inside", 0)


def test_a_closed_gate_without_a_listener_starts_the_command_all_the_same(runs):
    async def go():
        spec = runs.shell("ls /proc/self/fd; grep -c 0C38 /proc/net/tcp", egress=True)
        launched = runs.launch(spec)
        os.close(launched.gate)
        return await wait_end(launched.files, child=launched.pid), spec.paths.log.read_text().split()

    ended, words = asyncio.run(go())
    assert ended.exit_code == 1  # grep found no listener
    assert words == ["0", "1", "2", "3", "0"]  # 3 is the folder that ls reads: neither lock nor gate is there


def test_a_run_that_has_ended_has_none(runs):
    spec = runs.shell("true")
    runs.finish(spec)
    with pytest.raises(EgressFailed, match="ended"):
        open_listener(runs.started[0].files, timeout_s=20)


@pytest.mark.parametrize("problem", [EgressFailed("no way in"), OSError(11, "no process can be had")])
def test_without_a_way_out_the_command_never_begins(runs, problem):
    async def go():
        spec = runs.shell("echo begun", egress=True)
        reserve = DiskReserve(runs.folder, 0, 0)
        here = Processes(runs.host, lambda: None, "boot", reserve, clock=SystemClock(), dice=SystemDice())

        async def let_out(_files):
            raise problem

        answer = await here.launch(spec, None, (), let_out)
        return answer, look(spec.lock), spec.paths.log.read_text()

    answer, lock, log = asyncio.run(go())
    assert isinstance(answer, LaunchFailed)
    assert answer.failure.code is ErrorCode.NORESOURCE
    assert (lock, log) == (LockState.FREE, "")
