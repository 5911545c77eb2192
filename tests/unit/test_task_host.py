import json
import sys

import pytest

from runners.python import python_run, task_name_problem
from runners.task_host import TaskRefused, find_task, main, read_description


@pytest.fixture
def clean_modules():
    before = dict(sys.modules)
    yield
    for name in [name for name in sys.modules if name == "tasks" or name.startswith("tasks.")]:
        del sys.modules[name]
    sys.modules.update({name: module for name, module in before.items() if name.startswith("tasks")})


@pytest.fixture
def describe(tmp_path):
    def go(**changes):
        fields = {
            "task": "t",
            "params": {},
            "paths": [],
            "result": str(tmp_path / "r"),
            "result_bytes_max": 100,
        }
        path = tmp_path / "task.json"
        path.write_text(json.dumps({**fields, **changes}))
        return path

    return go


@pytest.mark.parametrize(
    "name", ["", "a-b", "../a", "a..b", ".a", "a.", "a\n", "a/b", "1a", "a" * 65, "a.b.c.d.e"]
)
def test_names_that_are_none(describe, name):
    assert task_name_problem(name) is not None
    with pytest.raises(TaskRefused, match="not a task's name"):
        read_description(describe(task=name))


@pytest.mark.parametrize("params", [[], "x", None, 3])
def test_parameters_are_an_object(describe, params):
    with pytest.raises(TaskRefused, match="params"):
        read_description(describe(params=params))


@pytest.mark.usefixtures("clean_modules")
def test_the_first_folder_wins_and_no_other_package_is_looked_at(tmp_path):
    for folder, value in (("one", 1), ("two", 2)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "both.py").write_text(f"def run(): return {value}\n")
    (tmp_path / "two" / "second.py").write_text("def run(): return 22\n")
    paths = [str(tmp_path / "one"), str(tmp_path / "two")]
    assert find_task("both", paths)() == 1
    assert find_task("second", paths)() == 22
    with pytest.raises(TaskRefused, match="no such task"):
        find_task("json", paths)


@pytest.mark.usefixtures("clean_modules")
def test_a_run_writes_its_result_and_returns_zero(describe, tmp_path):
    (tmp_path / "t.py").write_text("def run(**params): return params\n")
    assert main(["task_host", str(describe(paths=[str(tmp_path)], params={"a": [1, None]}))]) == 0
    assert json.loads((tmp_path / "r").read_text()) == {"a": [1, None]}


@pytest.mark.usefixtures("clean_modules")
def test_a_number_that_json_does_not_know_is_a_failure(describe, tmp_path, capsys):
    (tmp_path / "t.py").write_text("def run(): return float('nan')\n")
    assert main(["task_host", str(describe(paths=[str(tmp_path)]))]) == 1
    assert "JSON compliant" in capsys.readouterr().err


def test_parameters_that_are_no_json_are_refused_before_anything_is_bound(tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").touch()
    with pytest.raises(ValueError, match="not JSON"):
        python_run("t", {"a": object()}, task_paths=[], venv=tmp_path, task_file=tmp_path / "task.json")
    with pytest.raises(ValueError, match="name"):
        python_run("../t", {}, task_paths=[], venv=tmp_path, task_file=tmp_path / "task.json")


def test_a_venv_without_an_interpreter_is_told(tmp_path):
    with pytest.raises(FileNotFoundError):
        python_run("t", {}, task_paths=[], venv=tmp_path, task_file=tmp_path / "task.json")
