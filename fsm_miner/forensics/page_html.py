"""Markup by small functions: everything that is not `Html` is text, and is escaped and made harmless.

A page of a job shows a stranger's words: markup, scripts, characters that turn the direction of writing or can't be
seen, half characters of a damaged log. None of them may leave the place they are put in.
"""

import unicodedata
from html import escape

__all__ = ["Html", "cut", "el", "join", "text"]

# Control, format (bidirectional overrides, zero width), surrogate, private use, unassigned, separators of lines.
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_VOID = frozenset({"br", "circle", "line", "meta", "path", "rect"})


class Html(str):
    """Markup that is finished: it is put into other markup as it stands."""

    __slots__ = ()


def text(words: object) -> Html:
    r"""Return words as markup that shows exactly them. What can't be seen is an escape, but for `\n` and `\t`."""
    plain = str(words)
    if not plain.isprintable():
        plain = "".join(map(_visible, plain))
    return Html(escape(plain))


def _visible(char: str) -> str:
    if char in "\n\t" or unicodedata.category(char) not in _UNSEEN:
        return char
    return char.encode("unicode_escape").decode("ascii")


def cut(words: str, chars_max: int) -> str:
    """Return the beginning of words, with an ellipsis where something is missing."""
    return words if len(words) <= chars_max else words[: chars_max - 1] + "…"


def join(*parts: object) -> Html:
    """Put parts together; those that are no markup are text, None is nothing."""
    return Html("".join(part if isinstance(part, Html) else text(part) for part in parts if part is not None))


def el(tag: str, /, *parts: object, **attributes: object) -> Html:
    """Return an element. `class_` is the attribute class, `x_y` is x-y; an attribute of None is left out."""
    words = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{text(value)}"'
        for name, value in attributes.items()
        if value is not None
    )
    if tag in _VOID and not parts:
        return Html(f"<{tag}{words}>" if tag in {"br", "meta"} else f"<{tag}{words}/>")
    return Html(f"<{tag}{words}>{join(*parts)}</{tag}>")
