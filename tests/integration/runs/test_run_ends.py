# ruff: noqa: ASYNC220, ASYNC222  (a test's event loop has nothing else to do; other processes set no Event)

import asyncio
import dataclasses
import os
import pickle
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import runners
from runners.host import probe_host
from runners.launch import LaunchFailed
from runners.lock import AlreadyStarted
from runners.run import Bind, files_of
from runners.status import read_status
from runners.stop import StopOutcome, stop
from runners.verdict import Exited, Lost, SandboxFailed, Signalled, TimedOut, chain_failure, verdict
from runners.wait import Alive, Ended, NotStarted, observe, wait_end


def files(spec):
    return files_of(spec.paths, spec.run)


def judge(spec, ended, elapsed_s=0.0):
    failure = chain_failure(files(spec), read_status(spec.status).launched)
    return verdict(
        ended.exit_code,
        oom_killed=False,
        same_boot=True,
        elapsed_s=elapsed_s,
        time_limit_s=spec.limits.time_s,
        failure=failure,
    )


@pytest.mark.parametrize("code", [0, 1, 2, 127, 255])
def test_exit_code_arrives(runs, code):
    spec = runs.shell(f"exit {code}")
    assert judge(spec, runs.finish(spec)) == Exited(code)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_death_by_signal_is_told(runs, number):
    spec = runs.shell(f"kill -{int(number)} $$")
    assert judge(spec, runs.finish(spec)) == Signalled(number)


def test_both_streams_go_to_the_log_after_what_is_there(runs):
    spec = runs.shell("echo out; echo err >&2")
    spec.paths.log.write_text("earlier\n")
    runs.finish(spec)
    assert spec.paths.log.read_text() == "earlier\nout\nerr\n"
    assert spec.paths.log.stat().st_nlink == 1


def test_stdout_goes_to_the_named_file(runs, tmp_path):
    (tmp_path / "stdout").write_text("of an earlier run")
    spec = runs.shell("echo hello; echo err >&2", stdout=tmp_path / "stdout")
    runs.finish(spec)
    assert (tmp_path / "stdout").read_text() == "hello\n"
    assert spec.paths.log.read_text() == "err\n"


def test_stdout_that_is_a_link_starts_nothing(runs, tmp_path):
    (tmp_path / "victim").write_text("kept")
    (tmp_path / "stdout").symlink_to(tmp_path / "victim")
    spec = runs.shell("echo hello", stdout=tmp_path / "stdout")
    with pytest.raises(LaunchFailed, match="symbolic"):
        runs.launch(spec)
    assert (tmp_path / "victim").read_text() == "kept"
    assert isinstance(observe(files(spec)), NotStarted)


def test_a_run_is_never_started_twice(runs):
    spec = runs.shell("echo once")
    runs.finish(spec)
    with pytest.raises(AlreadyStarted):
        runs.launch(spec)
    assert spec.paths.log.read_text() == "once\n"


def test_a_missing_program_of_the_chain_leaves_nothing(runs):
    spec = runs.shell("true")
    runs.host = dataclasses.replace(runs.host, choom="/nonexistent/choom")
    with pytest.raises(LaunchFailed, match="cannot start"):
        runs.launch(spec)
    assert isinstance(observe(files(spec)), NotStarted)


def test_a_missing_command_is_no_exit_of_the_command(runs):
    spec = runs.spec("/nonexistent/command")
    found = judge(spec, runs.finish(spec))
    assert isinstance(found, SandboxFailed)
    assert "/nonexistent/command" in found.message


def test_a_missing_bind_is_the_sandbox_failing(runs, tmp_path):
    spec = runs.shell("exit 0", binds=(Bind(tmp_path / "missing", "/opt/missing"),))
    found = judge(spec, runs.finish(spec))
    assert isinstance(found, SandboxFailed)
    assert "missing" in found.message


def test_a_missing_bwrap_is_the_chain_failing(runs):
    spec = runs.shell("exit 0")
    runs.host = dataclasses.replace(runs.host, bwrap="/nonexistent/bwrap")
    assert isinstance(judge(spec, runs.finish(spec)), SandboxFailed)


def test_observing_tells_the_three_states(runs):
    async def go():
        spec = runs.shell("echo ready; read x < input.fifo")
        os.mkfifo(spec.paths.work / "input.fifo")
        before = observe(files(spec))
        launched = runs.launch(spec)
        await runs.printed(spec, "ready")
        during = observe(launched.files)
        (spec.paths.work / "input.fifo").write_text("go\n")
        return before, during, await wait_end(launched.files, child=launched.pid), observe(launched.files)

    before, during, ended, after = asyncio.run(go())
    assert before == NotStarted()
    assert isinstance(during, Alive)
    assert during.child_pid is not None
    assert ended == after == Ended(0)


def test_no_zombie_is_left_and_waiting_again_is_fine(runs):
    async def go():
        launched = runs.launch(runs.shell("exit 4"))
        first = await wait_end(launched.files, child=launched.pid)
        with pytest.raises(ChildProcessError):
            os.waitpid(launched.pid, os.WNOHANG)
        return first, await wait_end(launched.files, child=launched.pid), await wait_end(launched.files)

    assert asyncio.run(go()) == (Ended(4), Ended(4), Ended(4))


def test_cancelling_the_wait_leaves_the_run_alone(runs):
    async def go():
        spec = runs.shell("echo ready; read x < input.fifo; exit 5")
        os.mkfifo(spec.paths.work / "input.fifo")
        launched = runs.launch(spec)
        await runs.printed(spec, "ready")
        for child in (launched.pid, None):
            waiting = asyncio.create_task(wait_end(launched.files, child=child))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        assert isinstance(observe(launched.files), Alive)
        (spec.paths.work / "input.fifo").write_text("go\n")
        return await wait_end(launched.files, child=launched.pid)

    assert asyncio.run(go()) == Ended(5)


def test_a_detached_grandchild_dies_with_the_command(runs):
    # It would hold the log open, and the sandbox, for a minute.
    spec = runs.shell(
        "setsid sh -c 'echo $$ > pid; sleep 60' & while [ ! -s pid ]; do sleep 0.01; done; exit 3"
    )
    assert runs.finish(spec) == Ended(3)


def test_stop_lets_the_command_end_by_itself(runs):
    async def go():
        spec = runs.shell("trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.02; done")
        launched = runs.launch(spec)
        await runs.printed(spec, "ready")
        outcome = await stop(launched.files, 20)
        return outcome, await wait_end(launched.files, child=launched.pid), spec.paths.log.read_text()

    assert asyncio.run(go()) == (StopOutcome.TERMINATED, Ended(7), "ready\nbye\n")


@pytest.mark.parametrize(
    "script",
    [
        "trap '' TERM; echo ready; while :; do sleep 0.02; done",
        "setsid sh -c 'trap \"\" TERM; sleep 60' & trap '' TERM; echo ready; while :; do sleep 0.02; done",
        "trap '' TERM; for i in 1 2 3 4 5 6 7 8; do (while :; do sleep 0.05 & wait; done) & done; echo ready; wait",
    ],
    ids=["ignores", "detached", "forks"],
)
def test_stop_ends_what_resists(runs, script):
    async def go():
        spec = runs.shell(script)
        launched = runs.launch(spec)
        await runs.printed(spec, "ready")
        outcome = await stop(launched.files, 0.1)
        await wait_end(launched.files, child=launched.pid)
        return outcome, observe(launched.files)

    outcome, after = asyncio.run(go())
    assert outcome is StopOutcome.KILLED
    assert isinstance(after, Ended)


def test_stop_ends_a_stopped_command(runs):
    async def go():
        spec = runs.shell("echo ready; kill -STOP $$; sleep 60")
        launched = runs.launch(spec)
        await runs.printed(spec, "ready")
        return await stop(launched.files, 5)

    assert asyncio.run(go()) in (StopOutcome.TERMINATED, StopOutcome.KILLED)


def test_stop_right_after_the_launch_works(runs):
    async def go():
        launched = runs.launch(runs.shell("trap '' TERM; while :; do sleep 1; done"))
        outcome = await stop(launched.files, 0)
        await wait_end(launched.files, child=launched.pid)
        return outcome, await stop(launched.files, 0)

    assert asyncio.run(go()) == (StopOutcome.KILLED, StopOutcome.NOT_RUNNING)


def test_the_time_limit_holds_without_a_watcher(runs, limits):
    spec = runs.shell("trap '' TERM; while :; do sleep 1; done", limits=limits(time_s=0.1, grace_s=0))
    assert judge(spec, runs.finish(spec), elapsed_s=2.1) == TimedOut()


def test_a_killed_chain_takes_the_sandbox_along_and_is_lost(runs):
    async def go():
        spec = runs.shell("echo ready; sleep 60")
        launched = runs.launch(spec)
        await runs.printed(spec, "ready")
        os.kill(launched.pid, signal.SIGKILL)
        return judge(spec, await wait_end(launched.files, child=launched.pid))

    assert asyncio.run(go()) == Lost()


LAUNCHER = textwrap.dedent("""
    import pickle, sys, time
    from runners.launch import launch
    spec, host = pickle.load(sys.stdin.buffer)
    launch(spec, host)
    print("launched", flush=True)
    time.sleep(600)
""")


def test_a_run_outlives_its_launcher_and_its_exit_code_is_found_by_another(runs):
    async def go():
        spec = runs.shell("echo ready; read x < input.fifo; exit 9")
        os.mkfifo(spec.paths.work / "input.fifo")
        with subprocess.Popen(
            [sys.executable, "-c", LAUNCHER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=repository()
        ) as launcher:
            launcher.stdin.write(pickle.dumps((spec, runs.host)))
            launcher.stdin.close()
            assert launcher.stdout.readline() == b"launched\n"
            await runs.printed(spec, "ready")
            launcher.kill()
        assert isinstance(observe(files(spec)), Alive)
        (spec.paths.work / "input.fifo").write_text("go\n")
        async with asyncio.timeout(20):
            return await wait_end(files(spec))

    assert asyncio.run(go()) == Ended(9)


def test_another_process_can_stop_a_run_of_a_dead_launcher(runs):
    async def go():
        spec = runs.shell("trap 'exit 6' TERM; echo ready; while :; do sleep 0.02; done")
        with subprocess.Popen(
            [sys.executable, "-c", LAUNCHER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=repository()
        ) as launcher:
            launcher.stdin.write(pickle.dumps((spec, runs.host)))
            launcher.stdin.close()
            await runs.printed(spec, "ready")
            launcher.kill()
        return await stop(files(spec), 20), await wait_end(files(spec))

    assert asyncio.run(go()) == (StopOutcome.TERMINATED, Ended(6))


def repository():
    return Path(runners.__file__).parent.parent


def test_without_a_sandbox_exit_code_and_stop_work_too(runs):
    runs.host = probe_host("none")
    assert runs.host.backend == "none"

    async def go():
        spec = runs.shell("trap 'exit 7' TERM; echo ready; pwd; while :; do sleep 0.02; done", name="a")
        launched = runs.launch(spec)
        await runs.printed(spec, str(spec.paths.work))
        graceful = await stop(launched.files, 20), await wait_end(launched.files, child=launched.pid)
        stubborn = runs.launch(runs.shell("trap '' TERM; while :; do sleep 0.02; done", name="b"))
        killed = await stop(stubborn.files, 0)
        return graceful, killed

    assert asyncio.run(go()) == ((StopOutcome.TERMINATED, Ended(7)), StopOutcome.KILLED)
    assert runs.finish(runs.shell("exit 12", name="c")) == Ended(12)


def test_the_processor_time_of_a_short_run_is_the_kernels_own_count(runs):
    spec = runs.shell("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done")
    launched = runs.launch(spec)
    heard = []
    asyncio.run(wait_end(files(spec), child=launched.pid, reaped=heard.append))
    assert len(heard) == 1
    assert 0 < heard[0] < 30


def test_a_number_that_is_not_our_childs_is_not_waited_for(runs):
    spec = runs.shell("echo done")
    launched = runs.launch(spec)
    asyncio.run(wait_end(files(spec), child=launched.pid))
    # As if the number had gone to somebody else meanwhile: process 1 lives on, and is no child of ours.
    assert asyncio.run(asyncio.wait_for(wait_end(files(spec), child=1), 20)) == Ended(exit_code=0)
