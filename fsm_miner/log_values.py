"""What may stand in a log record: plain JSON, bounded in every direction, without secrets.

Values come from jobs, coordinators and exceptions; their `repr` is foreign code.
"""

import math
import sys
import traceback
from collections.abc import Iterable
from types import TracebackType
from typing import Any, cast

from fsm_miner.redaction import Redactor

__all__ = [
    "DEPTH_MAX",
    "ITEMS_MAX",
    "TEXT_MAX",
    "ExcInfo",
    "exception_of",
    "plain",
    "traceback_text",
]

TEXT_MAX = 8 * 1024
"""The most characters of one string."""
DEPTH_MAX = 6
"""How deep lists and mappings are shown."""
ITEMS_MAX = 64
"""The most entries of one list or mapping."""

_INT_MAX = 2**63
_CUT = "...[cut]"

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]


def plain(value: object, redactor: Redactor, depth: int = DEPTH_MAX) -> Any:
    """Turn any value into bounded, redacted JSON data. Raises nothing, whatever the value does."""
    try:
        return _plain(value, redactor, depth)
    except Exception as error:  # noqa: BLE001 - foreign code (repr, a subclass); a log line must not fail its caller
        return f"<{type(value).__name__} that cannot be shown: {type(error).__name__}>"


def _plain(value: object, redactor: Redactor, depth: int) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(str.__str__(value), redactor)
    if isinstance(value, int | float):
        return _number(value, redactor)
    if isinstance(value, dict):
        return _mapping(cast("dict[object, object]", value), redactor, depth)
    if isinstance(value, list | tuple | set | frozenset):
        return _items(cast("Iterable[object]", value), redactor, depth)
    return _text(repr(value), redactor)


def traceback_text(info: ExcInfo, redactor: Redactor) -> str:
    """Write an exception with its traceback, redacted; of a long one the end, which says what happened."""
    text = redactor.redact("".join(traceback.format_exception(*info, limit=50))).rstrip("\n")
    return text if len(text) <= TEXT_MAX else _CUT + text[-TEXT_MAX:]


def exception_of(value: object) -> ExcInfo | None:
    """Read what callers pass as `exc_info`: True, an exception, or the triple of `sys.exc_info`."""
    if isinstance(value, BaseException):
        return type(value), value, value.__traceback__
    if isinstance(value, tuple):
        found = cast("tuple[object, ...]", value)
        return exception_of(found[1]) if len(found) == 3 else None
    return exception_of(sys.exc_info()[1]) if value else None


def _text(text: str, redactor: Redactor) -> str:
    # Redacted first: cutting could leave the first half of a secret that then matches nothing.
    text = redactor.redact(text)
    return text if len(text) <= TEXT_MAX else text[:TEXT_MAX] + _CUT


def _number(value: float, redactor: Redactor) -> Any:
    if isinstance(value, float):
        number = float(value)
        bounded = math.isfinite(number)
    else:
        number = int(value)
        bounded = -_INT_MAX <= number < _INT_MAX
        if not bounded:
            return f"<a whole number of {number.bit_length()} bits>"
    # A secret may be made of digits only.
    text = str(number)
    return number if bounded and redactor.redact(text) == text else _text(text, redactor)


def _mapping(value: dict[object, object], redactor: Redactor, depth: int) -> Any:
    if depth <= 0:
        return f"<a mapping of {len(value)}>"
    found: dict[str, Any] = {}
    for key, item in value.items():
        if len(found) >= ITEMS_MAX:
            found[_CUT] = len(value) - ITEMS_MAX
            break
        name = _text(key if isinstance(key, str) else repr(key), redactor)
        found[name] = plain(item, redactor, depth - 1)
    return found


def _items(value: Iterable[object], redactor: Redactor, depth: int) -> Any:
    items = list(value)
    if depth <= 0:
        return f"<a list of {len(items)}>"
    found = [plain(item, redactor, depth - 1) for item in items[:ITEMS_MAX]]
    return found if len(items) <= ITEMS_MAX else [*found, _CUT]
