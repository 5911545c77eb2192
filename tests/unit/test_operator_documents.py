"""The operator's documents name only what exists, and leave no error or exit code out."""

import ast
import re
from pathlib import Path

import pytest

from fsm_miner import start
from fsm_miner.cli.app import COMMANDS
from states.codes import ErrorCode
from tests.system.test_system_debian import SCENARIOS

ROOT = Path(__file__).parents[2]
OPERATIONS = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")


def functions_in(path: Path) -> set[str]:
    return {
        node.name
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_every_test_that_the_security_promises_rest_on_exists():
    text = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    named = re.findall(r"`([a-z_/]+\.py)::(test_\w+)`", text)
    assert len(named) > 30
    missing = [
        f"{file}::{name}"
        for file, name in named
        if not (ROOT / "tests" / file).is_file() or name not in functions_in(ROOT / "tests" / file)
    ]
    assert missing == []


def test_every_promise_has_a_test():
    text = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    promised = text.split("## Promised now")[1].split("## Not promised")[0]
    rows = [
        line
        for line in promised.splitlines()
        if line.startswith("| ") and not line.startswith(("| promise |", "|---"))
    ]
    assert rows
    assert [row for row in rows if "::test_" not in row] == []


def test_every_scenario_that_a_promise_rests_on_is_played():
    text = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    lists = re.findall(r"`system/test_system_debian\.py::test_scenario` \(([^)]*)\)", text)
    assert len(lists) == text.count("::test_scenario`") > 5
    named = {name for words in lists for name in re.findall(r"`(\w+)`", words)}
    assert named - set(SCENARIOS) == set()


def test_every_error_code_has_its_line_in_the_troubleshooting_card():
    assert set(re.findall(r"^\| `(E_[A-Z]+)` \|", OPERATIONS, re.MULTILINE)) == {
        str(code) for code in ErrorCode
    }


@pytest.mark.parametrize("name", ["EXIT_CONFIG", "EXIT_HOST", "EXIT_ALREADY_RUNNING"])
def test_every_exit_code_is_explained(name: str):
    assert re.search(rf"^\| {getattr(start, name)} \|", OPERATIONS, re.MULTILINE)


@pytest.mark.parametrize("path", sorted((ROOT / "docs").rglob("*.md")), ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(path: Path):
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8"))
    broken = [
        link
        for link in links
        if not link.startswith(("http:", "https:")) and not (path.parent / link).exists()
    ]
    assert broken == []


@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "adr").glob("*.md")), ids=lambda path: path.name)
def test_an_adr_is_a_page_at_most(path: Path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 66


def test_every_command_that_is_named_exists():
    named = set(re.findall(r"`fsm-miner ([a-z]+)", OPERATIONS))
    assert named
    assert named - set(COMMANDS) == set()
