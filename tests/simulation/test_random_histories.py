"""Random histories: each seed is a coordinator, a network, jobs, crashes and an operator; then a fair world."""

import os

import pytest

from tests.simulation.histories import history
from tests.simulation.world import simulate

SEEDS = 240
_ONE = os.environ.get("FSM_MINER_SEED")
_BATCH = 30


def _seeds():
    return [[int(_ONE)]] if _ONE else [range(first, first + _BATCH) for first in range(0, SEEDS, _BATCH)]


@pytest.mark.parametrize("seeds", _seeds(), ids=lambda seeds: f"{seeds[0]}-{seeds[-1]}")
def test_random_histories(seeds):
    for seed in seeds:
        report = simulate(history(seed))  # a broken promise tells the seed and the history
        assert report.checked > 0


# Seeds that once found something, and what.
@pytest.mark.parametrize(
    "seed",
    [
        pytest.param(12, id="a pull every few milliseconds after 401"),
        pytest.param(85, id="nobody told of a step whose append was reported as failed"),
        pytest.param(134, id="silent though the token was good"),
        pytest.param(152, id="a late 401 made the node register again and again"),
        pytest.param(186, id="an offer written down though reported as failed was never taken up"),
    ],
)
def test_what_was_found_once_stays_mended(seed):
    assert simulate(history(seed)).outcomes is not None


def test_a_seed_gives_the_same_history_every_time():
    for seed in range(5):
        first, second = simulate(history(seed)), simulate(history(seed))
        assert first.history == second.history
        assert first.points == second.points


def test_the_histories_are_not_too_kind():
    reports = [simulate(history(seed)) for seed in range(40)]
    lines = [line for report in reports for line in report.history]
    for what in (
        "request lost",
        "answer lost",
        "5xx",
        "401",
        "429",
        "SIGTERM",
        "power cut",
        "kill",
        "disk is full",
    ):
        assert any(what in line for line in lines), what
    assert any("the lease of" in line for line in lines)
    assert any("hands out" in line for line in lines)
    assert sum(report.kills for report in reports) > 20
    assert sum(report.power_cuts for report in reports) > 20
    assert sum(report.simulated_s for report in reports) > 40 * 3600
