"""Bounds on decoded JSON, checked without recursion so that depth itself can do no harm."""

import math
from collections.abc import Mapping
from typing import Any, cast

__all__ = ["json_problem"]

INTEGER_MAX = 2**63 - 1
NODES_MAX = 100_000


def json_problem(value: Any, *, depth_max: int) -> str | None:
    """Answer None if `value` is JSON that survives storing and reading back, else what is wrong with it.

    Refused: anything nested deeper than `depth_max`, NaN and infinity, integers beyond 64 bits, text with
    half of a surrogate pair, keys that are no text, more than 100,000 values.
    """
    level: list[Any] = [value]
    nodes = 0
    depth = 0
    while level:
        nodes += len(level)
        if nodes > NODES_MAX:
            return f"holds more than {NODES_MAX} values"
        if depth > depth_max:
            return f"is nested deeper than {depth_max} levels"
        below: list[Any] = []
        for item in level:
            if isinstance(item, Mapping):
                members = cast("Mapping[Any, Any]", item)
                below.extend(members.keys())
                below.extend(members.values())
                if not all(isinstance(key, str) for key in members):
                    return "has a key that is no text"
            elif isinstance(item, (list, tuple)):
                below.extend(cast("list[Any]", item))
            else:
                problem = _scalar_problem(item)
                if problem is not None:
                    return problem
        level = below
        depth += 1
    return None


def _scalar_problem(item: Any) -> str | None:
    if item is None or isinstance(item, bool):
        return None
    if isinstance(item, str):
        try:
            item.encode("utf-8")
        except UnicodeEncodeError:
            return "contains half of a surrogate pair"
        return None
    if isinstance(item, int):
        return None if -INTEGER_MAX - 1 <= item <= INTEGER_MAX else "has an integer beyond 64 bits"
    if isinstance(item, float):
        return None if math.isfinite(item) else "has a number that is not finite"
    return "is not JSON"
