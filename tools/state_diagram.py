"""Keep the generated parts of `docs/states.md` current: the state diagram and the tables.

    python tools/state_diagram.py --check    exit code 1 if a part is out of date
    python tools/state_diagram.py --write    write the parts anew

A part stands between `<!-- generated: NAME -->` and `<!-- end -->`; everything else is left as it is.
"""

import argparse
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from states.diagram import codes_table, events_table, facts_table, state_diagram

__all__ = ["generated_parts", "main", "with_parts"]

PAGE = Path(__file__).resolve().parent.parent / "docs" / "states.md"
_PART = re.compile(r"(<!-- generated: (?P<name>\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def generated_parts() -> dict[str, str]:
    """Return each part's Markdown by its name."""
    return {
        "diagram": f"```mermaid\n{state_diagram()}\n```",
        "facts": facts_table(),
        "events": events_table(),
        "codes": codes_table(),
    }


def with_parts(page: str, parts: Mapping[str, str]) -> str:
    """Return `page` with each part in its place.

    Raises:
        ValueError: the page has not exactly one place for each part.

    """
    places = [match["name"] for match in _PART.finditer(page)]
    if sorted(places) != sorted(parts):
        raise ValueError(f"expected one place each for {sorted(parts)}, found {sorted(places)}")
    return _PART.sub(lambda match: f"{match[1]}\n{parts[match['name']]}\n\n{match[3]}", page)


def main(arguments: list[str] | None = None, page: Path = PAGE) -> int:
    """Check or write `page`; return the exit code."""
    parser = argparse.ArgumentParser(description="Keep the generated parts of docs/states.md current.")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--check", action="store_true", help="exit code 1 if a part is out of date")
    what.add_argument("--write", action="store_true", help="write the parts anew")
    asked = parser.parse_args(arguments)
    is_now = page.read_text(encoding="utf-8")
    try:
        should_be = with_parts(is_now, generated_parts())
    except ValueError as error:
        print(f"{page}: {error}", file=sys.stderr)
        return 1
    if is_now == should_be:
        return 0
    if asked.check:
        print(f"{page} is out of date: run python tools/state_diagram.py --write", file=sys.stderr)
        return 1
    page.write_text(should_be, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
