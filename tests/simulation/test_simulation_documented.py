"""The page on the simulator names every promise, and none that there is not."""

import re
from pathlib import Path

from tests.simulation.promises import PROMISES

PAGE = Path(__file__).resolve().parents[2] / "docs/simulation.md"


def test_every_promise_stands_in_the_page_word_for_word():
    rows = re.findall(r"^\| `([a-z-]+)` \| (.+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert dict(rows) == PROMISES
