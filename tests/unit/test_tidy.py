"""Habits that no linter knows. Each rule is a function from files to sentences; there must be none."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import fsm_miner
import journal
import runners
import states

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("fsm_miner", "states", "journal", "runners")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

LINES_MAX = 300
# Files that are longer, how long they may be, and why they are one file all the same.
LONGER = {
    "fsm_miner/supervisor.py": (355, "the one way through the house, with what stands at its side"),
    "fsm_miner/daemon.py": (470, "the one place where all parts are put together, in the order they start"),
    "fsm_miner/coordinator/http.py": (310, "one short method for each call of the contract"),
    "states/decide.py": (380, "one short function for each stimulus; the whole machine in one reading"),
}

# Asking the time or the dice oneself; `time.time_ns` as the default of a parameter is passed in like any other.
_TIME_CALLS = (
    "time time_ns monotonic monotonic_ns perf_counter perf_counter_ns clock_gettime clock_gettime_ns sleep"
)
ASKING = {("time", name) for name in _TIME_CALLS.split()}
ASKING |= {("datetime", "now"), ("datetime", "utcnow"), ("datetime", "today"), ("date", "today")}
# Who may, and why.
CLOCKS = {
    "fsm_miner/clock.py": "the clock and the dice",
    "runners/clock.py": "the clock",
    "fsm_miner/log.py": "the default of a parameter",
    "runners/watch.py": "measures how long real processes and folders take",
    "runners/stop.py": "measures the grace period of a real process",
}
# These start before there is a log, or are a program of their own whose voice is standard error.
PRINTS = {"fsm_miner/start.py", "runners/task_host.py"}
# The outermost ring, which no simulation reaches: commands print, and know what time it is.
COMMANDS = "fsm_miner/cli/"
VAGUE = {"utils", "util", "helpers", "helper", "manager", "managers", "base", "common", "misc"}

INDEX_ADDRESS = re.compile(
    r"pypi\.(org|python)|files\.pythonhosted\.|https?://[^\s\"'<>]*/(simple|pypi)(/|\b)"
    r"|(index-url|extra-index-url|find-links)[ =]+['\"]?https?:|^\s*(index-url|url)\s*=\s*['\"]?https?://[^\s]*index",
    re.MULTILINE,
)
THIS_MACHINE = re.compile(r"/work/(main|shared)\b|/tmp/fsm-[a-z]|/(home|Users)/[a-z]+/")
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")


def _name(path):
    return path.relative_to(ROOT).as_posix()


def _tree(path):
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def _calls(path):
    return [node for node in ast.walk(_tree(path)) if isinstance(node, ast.Call)]


def _tracked():
    """Every text file that belongs to the repository."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False, timeout=60)
    if listed.returncode == 0:
        found = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    else:  # a source archive has no history
        found = [p for p in ROOT.rglob("*") if not any(x.startswith(".") or x == "build" for x in p.parts)]
    return [path for path in found if path.is_file() and b"\0" not in path.read_bytes()[:8192]]


TRACKED = _tracked()


def _hits(pattern, paths):
    me = Path(__file__).resolve()
    return [
        f"{_name(path)}:{text.count(chr(10), 0, match.start()) + 1}: {match[0]!r}"
        for path in paths
        if path.resolve() != me
        for text in [path.read_text(encoding="utf-8")]
        for match in pattern.finditer(text)
    ]


def test_there_is_something_to_look_at():
    assert len(MODULES) > 80
    assert set(map(_name, MODULES)) > {f"{package}/__init__.py" for package in PACKAGES}
    assert {"pyproject.toml", "requirements.lock", "states/table.py"} <= set(map(_name, TRACKED))


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_a_module_is_short_and_says_what_it_is_about(path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    lines_max, _ = LONGER.get(_name(path), (LINES_MAX, ""))
    assert lines <= lines_max, f"{_name(path)} has {lines} lines: split it by concern"
    assert ast.get_docstring(_tree(path)), f"{_name(path)} has no docstring"
    assert path.stem not in VAGUE, f"{_name(path)}: name it after what it is about"
    assert path.parent.name not in VAGUE


def test_no_exception_for_a_long_file_outlives_its_need():
    long_now = {
        _name(path) for path in MODULES if len(path.read_text(encoding="utf-8").splitlines()) > LINES_MAX
    }
    assert sorted(LONGER) == sorted(long_now)


def test_only_commands_print():
    printing = {
        _name(path) for path in MODULES for call in _calls(path) if getattr(call.func, "id", None) == "print"
    }
    assert {name for name in printing if not name.startswith(COMMANDS)} == PRINTS


def test_time_and_chance_are_passed_in():
    found = {}
    for path in MODULES:
        for node in _calls(path):
            match node.func:
                case ast.Attribute(attr=attr, value=ast.Name(id=owner) | ast.Attribute(attr=owner)):
                    if (owner, attr) in ASKING or owner == "random":
                        found[_name(path)] = f"line {node.lineno}: {owner}.{attr}()"
    assert {
        name: line for name, line in found.items() if name not in CLOCKS and not name.startswith(COMMANDS)
    } == {}
    assert found.keys() >= CLOCKS.keys()  # no exception outlives its need


def test_clocks_and_dice_are_not_imported_by_name():
    names = {(module, name) for module, name in ASKING if module == "time"}
    found = [
        f"{_name(path)}:{node.lineno}"
        for path in MODULES
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.ImportFrom)
        and (node.module == "random" or any((node.module, alias.name) in names for alias in node.names))
    ]
    assert found == []


def test_no_error_is_caught_without_being_named():
    found = [
        f"{_name(path)}:{node.lineno}"
        for path in MODULES
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.ExceptHandler) and node.type is None
    ]
    assert found == []


def test_nothing_is_left_for_later():
    assert _hits(UNFINISHED, [path for path in TRACKED if path.suffix not in {".lock", ".svg"}]) == []


def test_no_package_index_is_named():
    assert _hits(INDEX_ADDRESS, TRACKED) == []


def test_no_path_of_a_developers_machine_is_named():
    assert _hits(THIS_MACHINE, TRACKED) == []


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (INDEX_ADDRESS, "see https://" + "pypi" + ".org/project/x"),
        (INDEX_ADDRESS, "--index-url" + " https://mirror.example/"),
        (INDEX_ADDRESS, "https://mirror.example/root/" + "simple/"),
        (THIS_MACHINE, "cd /work" + "/main"),
        (UNFINISHED, "# TO" + "DO: later"),
    ],
)
def test_the_patterns_find_what_they_are_for(pattern, text):
    assert pattern.search(text)


@pytest.mark.parametrize("folder", ["tools", "systemd"])
def test_what_is_no_package_does_not_look_like_one(folder):
    assert list((ROOT / folder).rglob("__init__.py")) == []


def test_no_two_test_files_have_the_same_name():
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))


def test_the_installed_package_is_the_one_that_is_tested():
    if os.environ.get("FSM_MINER_TEST_INSTALLED") != "1":
        pytest.skip("FSM_MINER_TEST_INSTALLED is not 1: the checkout may be tested")
    for package in (fsm_miner, states, journal, runners):
        assert package.__file__ is not None
        assert "site-packages" in Path(package.__file__).parts, f"{package.__file__} is the checkout"


def test_imports_go_one_way():
    beside = Path(sys.executable).with_name("lint-imports")
    tool = str(beside) if beside.exists() else shutil.which("lint-imports")
    if tool is None:
        assert not os.environ.get("CI"), "lint-imports is missing: install the dev dependencies"
        pytest.skip("lint-imports is not installed")
    checked = subprocess.run(
        [tool, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
