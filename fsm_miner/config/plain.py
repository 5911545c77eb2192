"""Says in plain words, and for the right line, what pydantic found wrong."""

import difflib
from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from fsm_miner.config.fields import LIST_MAX, shown
from fsm_miner.config.problem import Problem
from runners.yaml_lines import LinePath, line_of

__all__ = ["dotted", "keys_of", "plain_problems", "section_of"]

_NUMBER_ERRORS = frozenset(
    {
        "int_type",
        "int_from_float",
        "int_parsing_size",
        "float_type",
        "finite_number",
        "greater_than",
        "greater_than_equal",
        "less_than_equal",
    }
)
_SECTION_ERRORS = frozenset({"model_type", "model_attributes_type", "dict_type"})


def plain_problems(
    error: ValidationError, model: type[BaseModel], file: str, lines: Mapping[LinePath, int]
) -> list[Problem]:
    """Translate everything that `error` holds, in the order of the lines."""
    problems = [_problem(detail, model, file, lines) for detail in error.errors(include_url=False)]
    return sorted(problems, key=lambda problem: (problem.line or 0, problem.path))


def dotted(path: LinePath) -> str:
    """Write a path as people do: `runners.cli.allowlist_files[0]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def keys_of(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """Return the keys of a section as they are written in YAML, each with its field."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def section_of(field: FieldInfo) -> type[BaseModel] | None:
    """Return the section that stands under this key, if it is one."""
    kind: Any = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _problem(
    detail: ErrorDetails, model: type[BaseModel], file: str, lines: Mapping[LinePath, int]
) -> Problem:
    path = detail["loc"]
    line = line_of(lines, path)
    if detail["type"] == "extra_forbidden":
        return Problem(file, line, dotted(path[:-1]), _unknown_key(str(path[-1]), model, path[:-1]))
    return Problem(file, line, dotted(path), _message(detail, _field_at(model, path)))


def _message(detail: ErrorDetails, field: FieldInfo | None) -> str:
    kind, value = detail["type"], detail.get("input")
    if kind == "told":
        return detail["msg"]
    if kind == "missing":
        return _missing(field)
    if kind in _SECTION_ERRORS:
        return f"must be a section of key: value lines, not {shown(value)}"
    if kind == "too_long":
        return f"must have at most {LIST_MAX} entries"
    return f"must be {_wanted(kind, field)}, not {shown(value)}"


def _missing(field: FieldInfo | None) -> str:
    section = None if field is None else section_of(field)
    if section is None:
        return "is missing"
    needed = [key for key, inner in keys_of(section).items() if inner.is_required()]
    return f"is missing; it needs {' and '.join(needed)}"


def _wanted(kind: str, field: FieldInfo | None) -> str:
    if kind in _NUMBER_ERRORS and field is not None:
        return _number(field)
    if kind == "bool_type":
        return "true or false"
    if kind == "tuple_type":
        return "a list"
    if kind == "literal_error" and field is not None and get_origin(field.annotation) is Literal:
        return "one of " + ", ".join(f'"{choice}"' for choice in get_args(field.annotation))
    return "something else"


def _number(field: FieldInfo) -> str:
    is_float = field.annotation is float
    text = "a number" if is_float else "a whole number"
    marks: list[Any] = field.metadata
    for mark in marks:
        if isinstance(mark, Gt):
            text += f" greater than {mark.gt}"
        elif isinstance(mark, Ge):
            text += f" of at least {mark.ge}"
        elif isinstance(mark, Le):
            text += f" and at most {mark.le}"
    return text


def _unknown_key(key: str, model: type[BaseModel], above: LinePath) -> str:
    section = model
    for inner in _fields_along(model, above):
        section = section_of(inner) or section
    known = sorted(keys_of(section))
    near = difflib.get_close_matches(key[:100], known, n=1)
    hint = f'did you mean "{near[0]}"?' if near else f"known here: {', '.join(known)}"
    return f"unknown key {shown(key)}; {hint}"


def _field_at(model: type[BaseModel], path: LinePath) -> FieldInfo | None:
    return next(reversed([*_fields_along(model, path)]), None)


def _fields_along(model: type[BaseModel], path: LinePath) -> Iterator[FieldInfo]:
    section: type[BaseModel] | None = model
    for part in path:
        field = None if section is None or isinstance(part, int) else keys_of(section).get(part)
        if field is None:
            return
        yield field
        section = section_of(field)
