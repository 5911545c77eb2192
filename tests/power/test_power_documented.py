"""The page on power cuts names tests; they are there."""

import re
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "power-cuts.md"


def test_every_test_that_the_page_names_is_there():
    named = re.findall(r"`(test_power_\w+\.py)::(test_\w+)`", PAGE.read_text())
    assert len(named) > 8
    missing = [(file, test) for file, test in named if f"def {test}(" not in (HERE / file).read_text()]
    assert missing == []
    files = {path.name for path in HERE.glob("test_power_*.py")} - {Path(__file__).name}
    assert {file for file in files if file not in PAGE.read_text()} == set()
