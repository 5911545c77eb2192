"""docs/bad-days.md: each row rests on a test that exists, and quotes what the node really says."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "bad-days.md").read_text(encoding="utf-8")
TESTS = ROOT / "tests" / "integration" / "daemon"
UNIT = ROOT / "tests" / "unit"
SOURCES = "\n".join(
    path.read_text(encoding="utf-8")
    for package in ("fsm_miner", "journal", "runners", "states")
    for path in sorted((ROOT / package).rglob("*.py"))
)


def names_in(path):
    """Return the names of a file's tests."""
    found = [node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)]
    return {name for name in found if name.startswith("test_")}


def test_each_test_exists_and_each_bad_day_is_told():
    named = set(re.findall(r"(test_\w+\.py)::(test_\w+)", TEXT))
    files = {"test_daemon_full_disks.py", "test_daemon_bad_days.py"}
    there = {(file, name) for file in files for name in names_in(TESTS / file)}
    every = {
        (path.name, name)
        for path in (*TESTS.glob("test_*.py"), *UNIT.rglob("test_*.py"))
        for name in names_in(path)
    }
    assert named <= every
    untold = {name for _, name in there - named}
    about_limits = {  # docs/security.md has these
        "test_a_job_may_make_only_so_many_files",
        "test_an_input_that_does_not_fit_is_not_fetched_into_the_reserve",
        "test_no_way_round_the_limit",
        "test_empty_files_in_memory_are_memory",
    }
    assert untold == about_limits


@pytest.mark.parametrize(
    "words",
    [
        "make space",
        "the journal can't write: ",
        "see its mode, and dmesg",
        "the log can't be written",
        "lines are lost; make space",
        "resources.disk_reserve_mb",
        "is mounted read-only: see dmesg",
        "the export failed, so nothing was dropped",
        "raise LimitNOFILE=",
        "no allowlist rule is in force",
        "was removed while it ran",
        "no longer what was collected",
        "could not be put back: ",
        " files that took its place were set aside already",
        "the coordinator refuses this node (",
        "finished jobs hold ",
        "which go one by one until ",
    ],
)
def test_what_is_quoted_is_what_is_said(words):
    assert words in TEXT
    assert words in SOURCES
