"""YAML that people write by hand, read strictly, with the line of every value kept for error messages.

What is read is a subset of YAML 1.2: mappings with text keys, sequences, and the scalars of its core
schema. So `on`, `yes` and `no` are text and not booleans, `1:30` is text and not ninety, and a date is text.
Refused are duplicate keys, anchors and aliases (a few lines of them can stand for gigabytes), tags, several
documents, and whatever is too big or too deep. The bytes may be hostile: nothing but `YamlProblem` is raised.
"""

import math
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, cast

import yaml

__all__ = ["DEPTH_MAX", "LinePath", "YamlProblem", "line_of", "load_yaml"]

LinePath = tuple[str | int, ...]
"""Where a value stands: keys and list positions from the top, `("args", 3, 0)`. The top itself is `()`."""

DEPTH_MAX = 32
"""How deep mappings and sequences may be nested."""

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE = frozenset({"true", "True", "TRUE"})
_FALSE = frozenset({"false", "False", "FALSE"})
_INT = re.compile(r"[-+]?[0-9]+", re.ASCII)
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", re.ASCII)
_DIGITS_MAX = 18


class YamlProblem(Exception):
    """The text is not acceptable. `str()` gives `file:line: message`; `line` counts from 1."""

    def __init__(self, file: str, line: int, message: str) -> None:
        super().__init__(f"{file}:{line}: {message}")
        self.file = file
        self.line = line
        self.message = message


def load_yaml(text: str | bytes, file_name: str, max_bytes: int) -> tuple[Any, Mapping[LinePath, int]]:
    """Read one YAML document.

    Args:
        text: the document; bytes must be UTF-8.
        file_name: what messages call it; it is not opened.
        max_bytes: the largest size that is read at all.

    Returns:
        The data (dict, list, str, int, float, bool, None) and the line of each value by its path, counted
        from 1. An entry of a mapping stands on the line of its key.

    Raises:
        YamlProblem: the first thing wrong with the text.

    """
    return _Reading(file_name, max_bytes).read(text)


def line_of(lines: Mapping[LinePath, int], path: LinePath) -> int:
    """Return the line of `path`, or of the nearest thing above it that the text has (for a missing key)."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 1)


class _PlainLoader(yaml.SafeLoader):
    """Composes nodes, and stops at the first thing that is not plain before it can grow."""

    def __init__(self, text: str, file_name: str) -> None:
        super().__init__(text)
        self._file_name = file_name
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = cast("yaml.Event", self.peek_event())  # pyright: ignore[reportUnknownMemberType] - untyped there
        line = cast("int", event.start_mark.line) + 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise YamlProblem(
                self._file_name, line, "anchors and aliases (& and *) are not supported; write the value out"
            )
        if getattr(event, "tag", None) is not None:
            raise YamlProblem(
                self._file_name, line, "tags (!) are not supported; quote the value if it is text"
            )
        if self._depth > DEPTH_MAX:
            raise YamlProblem(self._file_name, line, f"nested more than {DEPTH_MAX} levels deep")
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1


class _Reading:
    """One call of `load_yaml`: the file's name, and the lines found so far."""

    def __init__(self, file_name: str, max_bytes: int) -> None:
        self._file_name = file_name
        self._max_bytes = max_bytes
        self._lines: dict[LinePath, int] = {}

    def read(self, text: str | bytes) -> tuple[Any, Mapping[LinePath, int]]:
        node = self._compose(self._decode(text))
        data = None if node is None else self._value(node, ())
        self._lines[()] = 1
        return data, MappingProxyType(self._lines)

    def _problem(self, line: int, message: str) -> YamlProblem:
        return YamlProblem(self._file_name, line, message)

    def _decode(self, text: str | bytes) -> str:
        try:
            raw = text if isinstance(text, bytes) else text.encode()
        except UnicodeEncodeError:
            raise self._problem(1, "not text: half of a surrogate pair") from None
        if len(raw) > self._max_bytes:
            raise self._problem(1, f"larger than {self._max_bytes} bytes")
        try:
            return raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise self._problem(raw.count(b"\n", 0, error.start) + 1, "not UTF-8 text") from None

    def _compose(self, text: str) -> yaml.Node | None:
        try:
            loader = _PlainLoader(text, self._file_name)
            try:
                return loader.get_single_node()
            finally:
                loader.dispose()  # pyright: ignore[reportUnknownMemberType] - the stubs leave it open
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            what = " ".join(part for part in (error.context, error.problem) if part)
            raise self._problem(1 if mark is None else mark.line + 1, f"not YAML: {what}") from None
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            raise self._problem(line, "not YAML: a control character that text must not hold") from None
        except (yaml.YAMLError, ValueError, OverflowError):
            # The scanner lets a few conversions through: "\UFFFFFFFF", a version number of a thousand digits.
            raise self._problem(1, "not YAML: an escape or a number that does not exist") from None

    def _value(self, node: yaml.Node, path: LinePath) -> Any:
        self._lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, (*path, index)) for index, item in enumerate(node.value)]
        assert isinstance(node, yaml.ScalarNode)
        return self._scalar(node)

    def _mapping(self, node: yaml.MappingNode, path: LinePath) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            key = self._scalar(key_node) if isinstance(key_node, yaml.ScalarNode) else None
            if not isinstance(key, str):
                raise self._problem(line, "a key must be text; quote it")
            where = (*path, key)
            if key in found:
                raise self._problem(line, f'duplicate key "{key[:80]}", first on line {self._lines[where]}')
            self._lines[where] = line
            found[key] = self._value(value_node, where)
        return found

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        text: str = node.value
        line = node.start_mark.line + 1
        if node.style is not None:
            return self._text(text, line)
        if text in _NULL:
            return None
        if text in _TRUE or text in _FALSE:
            return text in _TRUE
        if _INT.fullmatch(text):
            if len(text.lstrip("+-")) > _DIGITS_MAX:
                raise self._problem(
                    line, f"a number of more than {_DIGITS_MAX} digits; quote it if it is text"
                )
            return int(text)
        if _FLOAT.fullmatch(text):
            number = float(text)
            if not math.isfinite(number):
                raise self._problem(line, "a number too large; quote it if it is text")
            return number
        return self._text(text, line)

    def _text(self, text: str, line: int) -> str:
        if "\0" in text or any("\ud800" <= char <= "\udfff" for char in text):
            raise self._problem(line, "text must not hold NUL or half of a surrogate pair")
        return text
