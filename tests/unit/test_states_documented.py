"""`docs/states.md` shows the machine as it is, and the tool that keeps it so notices when it does not."""

import subprocess
import sys
from pathlib import Path

import pytest

from states.codes import ErrorCode
from states.diagram import codes_table, events_table, facts_table, state_diagram
from states.events import EVENTS
from states.table import TRANSITIONS, Guard, Rule, State

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools" / "state_diagram.py"
PAGE = ROOT / "docs" / "states.md"


def _run(*arguments, tool=TOOL):
    return subprocess.run(
        [sys.executable, tool, *arguments], capture_output=True, text=True, check=False, timeout=60
    )


@pytest.fixture
def copy(tmp_path):
    """The tool and its page in a folder of their own."""
    for source in (TOOL, PAGE):
        target = tmp_path / source.relative_to(ROOT)
        target.parent.mkdir()
        target.write_bytes(source.read_bytes())
    return tmp_path / "tools" / "state_diagram.py", tmp_path / "docs" / "states.md"


def test_the_page_is_current():
    checked = _run("--check")
    assert (checked.returncode, checked.stderr) == (0, "")


def test_a_page_that_is_out_of_date_is_noticed_and_written_anew(copy):
    tool, page = copy
    is_right = page.read_text()
    page.write_text(is_right.replace("PULLING --> ACKED: Acked", "PULLING --> DONE: Acked"))
    checked = _run("--check", tool=tool)
    assert checked.returncode == 1
    assert "is out of date" in checked.stderr
    assert _run("--write", tool=tool).returncode == 0
    assert page.read_text() == is_right


def test_a_page_without_its_places_is_refused_and_left_alone(copy):
    tool, page = copy
    page.write_text("# The life of a job\n")
    refused = _run("--write", tool=tool)
    assert refused.returncode == 1
    assert "found []" in refused.stderr
    assert page.read_text() == "# The life of a job\n"


def test_the_diagram_has_every_change_of_state_once():
    arrows = [line.strip().split(": ")[0] for line in state_diagram().splitlines() if ": " in line]
    changes = {f"{rule.source} --> {rule.dest}" for rule in TRANSITIONS if rule.dest is not None}
    assert sorted(arrows) == sorted(changes)


def test_a_rule_is_drawn_with_its_event_and_its_guard():
    rules = [
        Rule("Sent", State.IDLE, State.DONE),
        Rule("Lost", State.IDLE, State.DONE, Guard.BACK_TO_PREP),
        Rule("Seen", State.PREP, None, Guard.SUCCEEDED),
    ]
    assert state_diagram(rules).splitlines() == [
        "stateDiagram-v2",
        "    [*] --> IDLE",
        "    IDLE --> DONE: Sent, Lost [back to prep]",
        "    DONE --> [*]",
        "    FAILED --> [*]",
    ]
    assert facts_table(rules).splitlines()[2:] == ["| PREP | `Seen` [succeeded] |"]


def test_the_tables_have_a_line_for_each_event_and_code():
    events = [line.split(" | ")[0] for line in events_table().splitlines()[2:]]
    assert events == [f"| `{name}`" for name in EVENTS]
    codes = [line.split(" | ")[0] for line in codes_table().splitlines()[2:]]
    assert codes == [f"| `{code}`" for code in ErrorCode]


def test_a_line_says_what_is_stored():
    (line,) = [x for x in events_table().splitlines() if x.startswith("| `Superseded`")]
    assert line.endswith("| `reason`, [`status`] |")
    assert "| `E_INPUT` | yes | yes |" in codes_table()
    assert "| `E_SIGNAL` | no | yes |" in codes_table()


@pytest.mark.parametrize("words", [State, EVENTS])
def test_the_prose_names_every_state_and_event(words):
    prose = PAGE.read_text(encoding="utf-8")
    assert [word for word in words if word not in prose] == []
