"""Every event that can be logged and every metric stands in docs/logging.md, and nothing else does."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from fsm_miner.metrics import Metrics
from fsm_miner.status import Status
from states.admission import Capacity
from states.events import VERSIONS

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "logging.md").read_text(encoding="utf-8")
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}
# Functions that pass a name on to the log, with the place of the name among their arguments.
PASS_ON = {"trouble": 0, "_settle": 0, "record": 2}


def logged() -> Iterator[tuple[str, str]]:
    """Yield (event, place) for each name in the code."""
    for path in sorted((ROOT / "fsm_miner").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                argument = named(node, node.func)
                for name in texts(argument):
                    yield name, f"{path.relative_to(ROOT)}:{node.lineno}"


def named(call: ast.Call, function: ast.Attribute) -> ast.expr | None:
    """Return the argument that names an event, if the call logs one."""
    if function.attr in LEVELS and ast.unparse(function.value).endswith("log"):
        return call.args[0] if call.args else None
    place = PASS_ON.get(function.attr)
    return call.args[place] if place is not None and len(call.args) > place else None


def texts(node: ast.expr | None) -> Iterator[str]:
    if isinstance(node, ast.IfExp):
        yield from texts(node.body)
        yield from texts(node.orelse)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value


def section(title: str) -> str:
    return re.split(r"^## ", DOCUMENT, flags=re.MULTILINE)[
        [part.split("\n", 1)[0] for part in re.split(r"^## ", DOCUMENT, flags=re.MULTILINE)].index(title)
    ]


def in_first_column(text: str) -> set[str]:
    return set(re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE))


def test_each_event_is_documented():
    known = in_first_column(section("Events"))
    found = dict(logged())
    assert len(found) > 30, "the search itself is broken"
    missing = {name: place for name, place in found.items() if name not in known}
    assert missing == {}, f"not in docs/logging.md: {missing}"


def test_no_documented_event_is_gone():
    assert in_first_column(section("Events")) - {name for name, _ in logged()} == set()


def test_the_journal_s_events_are_listed():
    listed = set(re.findall(r"`([A-Z][A-Za-z]+)`", section("Events")))
    assert set(VERSIONS) <= listed


class Gauges:
    """Takes the gauges' names."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def gauge(self, name: str, _text: str, _read: Any) -> None:
        self.names.append(f"fsm_miner_{name}")


def test_each_metric_is_documented_and_no_documented_one_is_gone():
    gauges = Gauges()
    nobody = cast("Any", None)
    Status(
        "node-1",
        nobody,
        nobody,
        nobody,
        nobody,
        nobody,
        nobody,
        nobody,
        nobody,
        draining=lambda: False,
        isolation=nobody,
        capacity=lambda: Capacity(1, 0),
        uptime_s=lambda: 0.0,
        more_trouble=list,
    ).gauges(cast("Metrics", gauges))
    exposed = {
        f"{family.name}_total" if family.type == "counter" else family.name
        for family in Metrics("1.0").registry.collect()
    }
    assert in_first_column(section("Metrics")) == exposed | set(gauges.names)
