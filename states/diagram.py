"""The rulebook in words and pictures, made from the table and the classes themselves, so that it can't be outdated.

`tools/state_diagram.py` writes these texts into `docs/states.md`; a test and CI see that they are current.
"""

from collections.abc import Iterable
from dataclasses import MISSING, fields
from typing import Any

from states.codes import RULES
from states.events import EVENTS
from states.table import FINAL, TRANSITIONS, Rule, State

__all__ = ["codes_table", "events_table", "facts_table", "state_diagram"]


def state_diagram(rules: Iterable[Rule] = TRANSITIONS) -> str:
    """Return the transitions that change a state, as a Mermaid `stateDiagram-v2`; one arrow for each pair of states."""
    arrows: dict[tuple[State, State], list[str]] = {}
    for rule in rules:
        if rule.dest is not None:
            arrows.setdefault((rule.source, rule.dest), []).append(_label(rule))
    lines = ["stateDiagram-v2", f"    [*] --> {State.IDLE}"]
    lines += [f"    {source} --> {dest}: {', '.join(labels)}" for (source, dest), labels in arrows.items()]
    lines += [f"    {state} --> [*]" for state in State if state in FINAL]
    return "\n".join(lines)


def facts_table(rules: Iterable[Rule] = TRANSITIONS) -> str:
    """Return the internal transitions (facts that change no state) as a Markdown table, one line for each state."""
    facts: dict[State, list[str]] = {}
    for rule in rules:
        if rule.dest is None:
            facts.setdefault(rule.source, []).append(_label(rule, "`"))
    rows = [(f"{state}", ", ".join(labels)) for state, labels in facts.items()]
    return _table(("in state", "facts that change no state"), rows)


def events_table() -> str:
    """Return all events as a Markdown table: what each means (its docstring) and what is stored (its fields)."""
    rows = [(f"`{name}`", _sentence(kind), _stored(kind)) for name, kind in EVENTS.items()]
    return _table(("event", "means", "stored with it"), rows)


def codes_table() -> str:
    """Return the error codes and their rules as a Markdown table."""
    rows = [
        (f"`{code}`", "yes" if rule.retry_here else "no", "yes" if rule.retryable else "no")
        for code, rule in RULES.items()
    ]
    return _table(("code", "this node runs it again", "reported as retryable"), rows)


def _label(rule: Rule, quote: str = "") -> str:
    condition = "" if rule.guard is None else f" [{rule.guard.replace('_', ' ')}]"
    return f"{quote}{rule.event}{quote}{condition}"


def _sentence(kind: type[Any]) -> str:
    text = kind.__doc__
    assert text, f"{kind.__name__} needs a docstring: the documentation is made of it"
    return " ".join(text.split())


def _stored(kind: type[Any]) -> str:
    """Name the fields; those that may be left out stand in brackets."""
    names = [
        f"`{field.name}`"
        if field.default is MISSING and field.default_factory is MISSING
        else f"[`{field.name}`]"
        for field in fields(kind)
    ]
    return ", ".join(names)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [
        head,
        tuple("---" for _ in head),
        *(tuple(cell.replace("|", "\\|") for cell in row) for row in rows),
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
