"""`make demo` for real, and proof that it notices when something goes wrong."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

DEMO = Path(__file__).parents[2] / "tools" / "demo.py"
JOBS = ("transcode", "loudness", "scenes", "fetch", "tampered", "forbidden", "sneaky", "endless", "survivor")


@pytest.fixture(autouse=True)
def tools_are_there():
    missing = [tool for tool in ("ffmpeg", "ffprobe", "bwrap") if shutil.which(tool) is None]
    if missing and os.environ.get("CI") != "true":
        pytest.skip(f"not installed: {missing}")
    assert not missing


@pytest.fixture
def folder(tmp_path):
    yield tmp_path / "demo"
    assert [p.info["cmdline"] for p in of_folder(tmp_path)] == []


def of_folder(folder):
    """Every process that has to do with the folder, by its arguments or its working folder."""
    found = []
    for process in psutil.process_iter(["cmdline", "cwd"]):
        words = [*(process.info["cmdline"] or []), process.info["cwd"] or ""]
        if process.pid != os.getpid() and any(str(folder) in word for word in words):
            found.append(process)
    return found


def command(folder, *arguments):
    return [sys.executable, str(DEMO), "--dir", str(folder), *map(str, arguments)]


def demo(folder, *arguments, **more):
    return subprocess.run(
        command(folder, *arguments), capture_output=True, text=True, timeout=280, check=False, **more
    )


def marks(output):
    """The table of outcomes: ok or NO for each job."""
    lines = (line.split() for line in output.splitlines())
    return {words[1]: words[0] for words in lines if words[:1] in (["ok"], ["NO"])}


@pytest.mark.slow
def test_everything_comes_out_as_expected(folder):
    ended = demo(folder)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert marks(ended.stdout) == dict.fromkeys(JOBS, "ok")
    assert "kill -9" in ended.stdout
    assert "Reattached" in ended.stdout  # the replay
    assert (folder / "coordinator" / "results" / "survivor" / "1" / "artifacts" / "output.mp4").exists()


@pytest.mark.slow
def test_the_demo_notices_that_nothing_of_it_is_allowed(folder, tmp_path):
    (tmp_path / "rules").mkdir()
    # One rule, for something else: a node without any pulls no commands.
    (tmp_path / "rules" / "true.yaml").write_text('command: {path: "/usr/bin/true"}\nargs: []\n')
    ended = demo(folder, "--allowlist", tmp_path / "rules")
    assert ended.returncode == 1, ended.stdout + ended.stderr
    found = marks(ended.stdout)
    assert {name for name, mark in found.items() if mark == "NO"} == {"transcode", "endless", "survivor"}
    assert "survivor: expected done, got E_DENY" in ended.stdout
    assert str(folder / "logs") in ended.stdout.replace("\n", "")


def until_it_runs(lines, job):
    """Read the demo's lines until `job` runs; return the states that it entered until then, in their order.

    A look at the journal may fall between two of them, so that they stand in one line or in several.
    """
    states, seen = [], []
    for line in lines:
        seen.append(line)
        _, found, entered = line.partition(f" {job} ")
        states += entered.strip().split(" > ") if found else []
        if "RUNNING" in states:
            return states[: states.index("RUNNING") + 1]
    raise AssertionError(f"{job} never ran: {''.join(seen)}")


@pytest.mark.slow
def test_an_interrupted_demo_leaves_nothing_running(folder):
    with subprocess.Popen(command(folder), stdout=subprocess.PIPE, text=True) as process:
        assert until_it_runs(process.stdout, "endless") == ["PULLING", "ACKED", "PREP", "RUNNING"]
        assert any(Path(word).name == "ffmpeg" for p in of_folder(folder) for word in p.info["cmdline"] or [])
        process.send_signal(signal.SIGINT)
        assert "interrupted" in process.stdout.read()
        assert process.wait(60) == 130


def test_a_folder_of_somebody_else_is_not_touched(folder):
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work")
    ended = demo(folder)
    assert ended.returncode == 2
    assert "--dir" in ended.stdout
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]


def test_missing_tools_are_named(folder):
    ended = demo(folder, env={"PATH": "/nonexistent"})
    assert ended.returncode == 2
    assert "bubblewrap, ffmpeg" in ended.stdout
    assert not folder.exists()


def test_help_says_what_it_does(folder):
    ended = demo(folder, "--help")
    assert ended.returncode == 0
    assert "killed in the middle" in ended.stdout
    assert not folder.exists()
