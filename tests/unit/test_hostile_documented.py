"""The page on the hostile suite is the suite's."""

from pathlib import Path

from tests.hostile.table import page


def test_the_page_is_current():
    written = Path(__file__).parents[2] / "docs" / "hostile-suite.md"
    assert written.read_text() == page(), "run: python tests/hostile/table.py > docs/hostile-suite.md"
