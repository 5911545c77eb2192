import json
import subprocess
import sys
from pathlib import Path

import pytest

from runners.cli import base_env, cli_argv
from runners.python import python_binds, python_run
from runners.run import JOB_VIEW
from runners.wait import Ended

TASKS = {
    "double": (
        "def run(number, *, offset=0):\n    print('doubling', number)\n    return {'value': number * 2 + offset}\n"
    ),
    "broken": "def run():\n    raise RuntimeError('no luck')\n",
    "huge": "def run():\n    return 'x' * 3_000_000\n",
    "odd": "def run():\n    return object()\n",
    "empty": "x = 1\n",
    "needs": "import a_module_that_is_not_there\ndef run(): pass\n",
    "where": "import sys\ndef run():\n    return [sys.prefix, sys.flags.isolated]\n",
}


@pytest.fixture(scope="module")
def venv(tmp_path_factory):
    folder = tmp_path_factory.mktemp("venv")
    base = Path(sys.base_prefix) / "bin" / "python3"
    subprocess.run([base, "-m", "venv", "--without-pip", folder], check=True, timeout=120)
    return folder


@pytest.fixture
def task(runs, tmp_path, venv):
    folder = tmp_path / "tasks"
    folder.mkdir()
    for name, text in TASKS.items():
        (folder / f"{name}.py").write_text(text)

    def go(name, **params):
        spec = runs.spec("/bin/true")
        # What lies in the working folder must not be imported instead of the real things.
        (spec.paths.work / "json.py").write_text("raise RuntimeError('shadowed')")
        (spec.paths.work / "tasks.py").write_text("raise RuntimeError('shadowed')")
        parts = python_run(
            name, params, task_paths=[folder], venv=venv, task_file=spec.paths.control / "task-1.json"
        )
        parts.task_file.write_bytes(parts.task_json)
        spec = runs.spec(*parts.argv, binds=parts.binds, env=base_env(JOB_VIEW))
        return runs.finish(spec), spec.paths.output / "result.json", spec.paths.log.read_text()

    return go


def test_a_task_returns_its_result_and_prints_to_the_log(task):
    ended, result, log = task("double", number=21, offset=1)
    assert ended == Ended(0), log
    assert json.loads(result.read_text()) == {"value": 43}
    assert log == "doubling 21\n"
    assert [path.name for path in result.parent.iterdir()] == ["result.json"]


def test_it_runs_in_the_given_venv_isolated(task, venv):
    ended, result, log = task("where")
    assert ended == Ended(0), log
    assert json.loads(result.read_text()) == [str(venv), 1]


@pytest.mark.parametrize(
    ("name", "params", "code", "message"),
    [
        ("broken", {}, 1, "RuntimeError: no luck"),
        ("huge", {}, 1, "write what is large to a file"),
        ("odd", {}, 1, "not JSON serializable"),
        ("needs", {}, 1, "a_module_that_is_not_there"),
        ("missing", {}, 2, "task refused: missing: no such task"),
        ("double.missing", {}, 2, "task refused: double.missing: no such task"),
        ("empty", {}, 2, "has no function run()"),
        ("double", {}, 2, "task refused: double: params: missing a required argument: 'number'"),
        ("double", {"number": 1, "other": 2}, 2, "unexpected keyword argument 'other'"),
    ],
)
def test_what_goes_wrong_is_told_apart_and_leaves_no_result(task, name, params, code, message):
    ended, result, log = task(name, **params)
    assert ended == Ended(code), log
    assert message in log
    assert not result.exists()


def test_an_interpreter_outside_the_system_folders_is_shown(tmp_path, runs):
    # A copy of an interpreter, as pyenv and uv keep them, reached over a link of the venv.
    prefix = tmp_path / "versions" / "3"
    (prefix / "bin").mkdir(parents=True)
    (prefix / "bin" / "python3").write_bytes(Path("/bin/true").read_bytes())
    (prefix / "bin" / "python3").chmod(0o755)
    (tmp_path / "current").symlink_to(prefix)
    venv = tmp_path / "own"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to(tmp_path / "current" / "bin" / "python3")
    (venv / "pyvenv.cfg").write_text(f"home = {tmp_path / 'current' / 'bin'}\nversion = 3\n")
    binds = python_binds(venv)
    assert {bind.source for bind in binds} == {venv, prefix, tmp_path / "current"}
    assert not any(bind.writable for bind in binds)
    spec = runs.spec(str(venv / "bin" / "python"), binds=binds)
    # A dynamic program: the system's libraries are there, so it runs.
    assert runs.finish(spec) == Ended(0), spec.paths.log.read_text()


def test_an_allowed_command_runs_with_the_runners_environment(runs):
    spec = runs.spec(
        *cli_argv("/bin/sh", ["-c", 'echo "$HOME $TMPDIR $MODE [$CUDA_VISIBLE_DEVICES]"']),
        env=base_env(JOB_VIEW, gpus=["GPU-1", "GPU-2"], job_env={"MODE": "x", "CUDA_VISIBLE_DEVICES": "7"}),
    )
    assert runs.finish(spec) == Ended(0)
    assert spec.paths.log.read_text() == "/job/work /tmp x [GPU-1,GPU-2]\n"
