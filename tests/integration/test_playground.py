"""`make run` for real: two processes, a job that outlives their end, and a second start that delivers it."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

PLAYGROUND = Path(__file__).parents[2] / "tools" / "playground.py"
ALLOWED = 'command: {path: "/usr/bin/sleep"}\nargs: [["[0-9]+"]]\n'


@pytest.fixture(autouse=True)
def sandbox_is_there():
    missing = shutil.which("bwrap") is None
    if missing and os.environ.get("CI") != "true":
        pytest.skip("bwrap is not installed")
    assert not missing


@pytest.fixture
def address():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@contextmanager
def playground(folder, address):
    command = [sys.executable, str(PLAYGROUND), "--dir", str(folder), "--listen", address]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                process.stdout.read()
                process.wait(60)


def read_until(process, *words):
    seen = []
    for line in process.stdout:
        seen.append(line)
        if all(word in line for word in words):
            return "".join(seen)
    raise AssertionError(f"never said {words}:\n{''.join(seen)}")


@pytest.mark.slow
def test_a_job_outlives_the_playground_and_is_delivered_by_the_next(tmp_path, address):
    job = {"job_id": "nap", "runner": "cli", "command": "sleep", "args": ["6"], "timeout_s": 60}
    with playground(tmp_path, address) as process:
        greeting = read_until(process, "registered")
        assert f"http://{address}/api/v1" in greeting
        assert "submit.py" in greeting
        config = tmp_path / "miner" / "config.yaml"
        (tmp_path / "sleep.yaml").write_text(ALLOWED)
        text = config.read_text()
    assert process.returncode == 0

    allowlist = str(PLAYGROUND.parents[1] / "allowlist.d")
    assert allowlist in text
    config.write_text(text.replace(allowlist, str(tmp_path / "sleep.yaml")))
    with playground(tmp_path, address) as process:
        read_until(process, "registered")
        httpx.post(f"http://{address}/admin/jobs", json=job, trust_env=False).raise_for_status()
        read_until(process, "nap: PREP > RUNNING")
        process.send_signal(signal.SIGINT)
        assert "1 running job(s) go on" in process.stdout.read()
    with playground(tmp_path, address) as process:
        read_until(process, "nap: UPLOADING > DONE")
        view = httpx.get(f"http://{address}/admin/jobs/nap", trust_env=False).json()
        assert (view["state"], len(view["attempts"])) == ("done", 1)
    assert not [p for p in psutil.process_iter(["cmdline"]) if str(tmp_path) in str(p.info["cmdline"])]


@pytest.mark.slow
def test_what_is_killed_is_started_again_and_a_job_goes_on(tmp_path, address):
    job = {"job_id": "nap", "runner": "cli", "command": "sleep", "args": ["3"], "timeout_s": 60}
    folder = tmp_path / "a folder"
    with playground(folder, address) as process:
        greeting = read_until(process, "registered")
        exports = [line for line in greeting.splitlines() if line.startswith("export ")]
        shell = ["sh", "-c", "\n".join([*exports, 'echo "$FSM_MINER_CONFIG"; test -n "$MINER_AUTH"'])]
        pasted = subprocess.run(shell, capture_output=True, text=True, check=True, env={})
        assert len(exports) == 2
        assert pasted.stdout == f"{folder}/miner/config.yaml\n"
        miner, coordinator = (
            int(line.split()[2]) for line in greeting.splitlines() if line.strip().startswith("kill -9 ")
        )
        (tmp_path / "sleep.yaml").write_text(ALLOWED)
        config = folder / "miner" / "config.yaml"
        allowlist = str(PLAYGROUND.parents[1] / "allowlist.d")
        config.write_text(config.read_text().replace(allowlist, str(tmp_path / "sleep.yaml")))
        os.kill(miner, signal.SIGKILL)
        read_until(process, "the daemon was ended by signal 9: starting it again")
        again = read_until(process, "the daemon works again")
        httpx.post(f"http://{address}/admin/jobs", json=job, trust_env=False).raise_for_status()
        read_until(process, "nap: PREP > RUNNING")
        os.kill(coordinator, signal.SIGKILL)
        os.kill(int(again.rsplit(maxsplit=1)[-1]), signal.SIGKILL)
        read_until(process, "the coordinator works again")
        read_until(process, "nap: UPLOADING > DONE")
        view = httpx.get(f"http://{address}/admin/jobs/nap", trust_env=False).json()
        assert (view["state"], len(view["attempts"])) == ("done", 1)


def test_it_says_when_the_address_is_taken(tmp_path, address):
    host, port = address.split(":")
    with socket.socket() as other:
        other.bind((host, int(port)))
        other.listen()
        with playground(tmp_path, address) as process:
            assert "the coordinator ended at once" in process.stdout.read()
            assert process.wait(60) == 1
