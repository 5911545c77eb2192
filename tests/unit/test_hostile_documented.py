"""The page on the hostile suite is the suite's, and its figures are those of a recorded run."""

from pathlib import Path

from tests.hostile.attacks import ATTACKS
from tests.hostile.figures import load
from tests.hostile.table import page

AGAIN = "run: python tests/hostile/table.py --record > docs/hostile-suite.md"


def test_the_page_is_current():
    written = Path(__file__).parents[2] / "docs" / "hostile-suite.md"
    assert written.read_text() == page(load()), "run: python tests/hostile/table.py > docs/hostile-suite.md"


def test_the_figures_are_of_these_attacks():
    assert list(load().attacks) == [attack.name for attack in ATTACKS], AGAIN


def test_no_recorded_neighbour_was_harmed():
    figures = load()
    assert 0.01 < figures.alone_s < 5
    for name, seen in figures.attacks.items():
        assert 0.3 < seen.neighbour <= 1.5, name
        assert 0 < seen.healthz_ms < 10_000, name
        assert 0 < seen.lived_s < 30, name
