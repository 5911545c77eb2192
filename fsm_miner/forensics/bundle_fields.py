"""Reading fields of a decoded JSON object that nobody vouches for: types and bounds, and errors that name the place."""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, cast

__all__ = ["BundleBroken", "Fields"]

_NAME_MAX = 512
_INT_MAX = 2**63 - 1
_DIGEST = re.compile(r"(?:[0-9a-f]{2})*", re.ASCII)


class BundleBroken(Exception):
    """A file is no bundle, or a case does not fit into one. Names the file, the place and what is wrong."""


class Fields:
    """An object of a bundle. `place` is what errors call it."""

    def __init__(self, values: Any, place: str) -> None:
        if not isinstance(values, dict):
            raise BundleBroken(f"{place}: is no JSON object")
        self.values: Mapping[str, Any] = cast("dict[str, Any]", values)
        self.place = place

    def error(self, name: str, problem: str) -> BundleBroken:
        """Return the error that says what is wrong with a field."""
        return BundleBroken(f"{self.place}: {name}: {problem}")

    def raw(self, name: str) -> Any:
        """Return a field, whatever it is; None if it is missing."""
        return self.values.get(name)

    def text(self, name: str, chars_max: int = _NAME_MAX) -> str:
        """Return a text. It may hold anything: what shows it makes it harmless."""
        value = self.raw(name)
        if not isinstance(value, str):
            raise self.error(name, "is no text" if name in self.values else "is missing")
        if len(value) > chars_max:
            raise self.error(name, f"has {len(value)} characters; at most {chars_max} are allowed")
        return value

    def text_or_none(self, name: str, chars_max: int = _NAME_MAX) -> str | None:
        """Return a text, or None."""
        return None if self.raw(name) is None else self.text(name, chars_max)

    def number(self, name: str, least: int = 0) -> int:
        """Return a whole number from `least` to 2^63 - 1."""
        return self._whole(name, self.raw(name), least)

    def number_or_none(self, name: str) -> int | None:
        """Return a whole number, or None."""
        return None if self.raw(name) is None else self.number(name)

    def real(self, name: str) -> float:
        """Return a finite number that is not negative."""
        value = self.raw(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.error(name, "is no number")
        if not math.isfinite(value) or not 0 <= value <= _INT_MAX:
            raise self.error(name, "is out of bounds")
        return float(value)

    def digest(self, name: str) -> str:
        """Return bytes in lower-case hex; a damaged hash may have any length."""
        value = self.text(name)
        if _DIGEST.fullmatch(value) is None:
            raise self.error(name, "is no hash in hex")
        return value

    def sub(self, name: str) -> "Fields":
        """Return an object."""
        return Fields(self.raw(name), f"{self.place}: {name}")

    def subs(self, name: str, most: int) -> Iterator["Fields"]:
        """Yield the objects of a list."""
        for number, value in enumerate(self._list(name, most)):
            yield Fields(value, f"{self.place}: {name}[{number}]")

    def numbers(self, name: str, most: int) -> tuple[int, ...]:
        """Return a list of whole numbers."""
        return tuple(self._whole(f"{name}[{n}]", value, 0) for n, value in enumerate(self._list(name, most)))

    def texts(self, name: str, most: int, chars_max: int) -> tuple[str, ...]:
        """Return a list of texts."""
        found = self._list(name, most)
        for number, value in enumerate(found):
            if not isinstance(value, str) or len(value) > chars_max:
                raise self.error(f"{name}[{number}]", f"is no text of at most {chars_max} characters")
        return tuple(found)

    def all_texts(self, most: int, chars_max: int) -> dict[str, str]:
        """Return this object, whose values are all texts."""
        if len(self.values) > most:
            raise BundleBroken(f"{self.place}: has {len(self.values)} fields; at most {most} are allowed")
        for name in self.values:
            if len(name) > chars_max:
                raise BundleBroken(f"{self.place}: a field's name has more than {chars_max} characters")
        return {name: self.text(name, chars_max) for name in self.values}

    def _list(self, name: str, most: int) -> list[Any]:
        value = self.raw(name)
        if not isinstance(value, list):
            raise self.error(name, "is no list" if name in self.values else "is missing")
        found = cast("list[Any]", value)
        if len(found) > most:
            raise self.error(name, f"has {len(found)} entries; at most {most} are allowed")
        return found

    def _whole(self, name: str, value: Any, least: int) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.error(name, "is no whole number")
        if not least <= value <= _INT_MAX:
            raise self.error(name, f"is not from {least} to {_INT_MAX}")
        return value
