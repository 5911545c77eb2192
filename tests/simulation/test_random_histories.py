"""Random histories: each seed is a coordinator, a machine, jobs, crashes and operators; then a fair world."""

import os
from collections import Counter

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.simulation.acts import ACTS
from tests.simulation.crash import CrashKind
from tests.simulation.drawn import scenarios
from tests.simulation.found import FOUND
from tests.simulation.histories import history
from tests.simulation.network import Fate
from tests.simulation.promises import PROMISES
from tests.simulation.shortest import shortest
from tests.simulation.world import BrokenPromise, simulate

SEEDS = 200
_ONE = os.environ.get("FSM_MINER_SEED")
_BATCH = 20


def _seeds():
    return [[int(_ONE)]] if _ONE else [range(first, first + _BATCH) for first in range(0, SEEDS, _BATCH)]


def _tell_shortest(broken):
    pytest.fail(
        f"seed {broken.scenario.seed}; the shortest history found is\n{shortest(broken)}", pytrace=False
    )


@pytest.mark.parametrize("seeds", _seeds(), ids=lambda seeds: f"{seeds[0]}-{seeds[-1]}")
def test_random_histories(seeds):
    for seed in seeds:
        try:
            report = simulate(history(seed))
        except BrokenPromise as broken:
            _tell_shortest(broken)
        assert report.checked.total() > 0


@settings(
    max_examples=60,
    deadline=None,
    database=None,
    derandomize=True,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)
@given(scenarios())
def test_whatever_hypothesis_thinks_of_breaks_no_promise(scenario):
    assert simulate(scenario).checked.total() > 0


@pytest.mark.parametrize("what", FOUND)
def test_what_was_found_once_stays_mended(what):
    assert simulate(FOUND[what]).outcomes is not None


def test_a_seed_gives_the_same_history_every_time():
    for seed in range(5):
        first, second = simulate(history(seed)), simulate(history(seed))
        assert first.history == second.history
        assert first.points == second.points


def test_the_histories_are_not_too_kind():
    faults, crashes, checked = Counter(), Counter(), Counter()
    lines, simulated_s = [], 0.0
    for seed in range(60):
        report = simulate(history(seed))
        faults += report.faults
        crashes += report.crashes
        checked += report.checked
        simulated_s += report.simulated_s
        lines += report.history
    expected = {f"network: {fate}" for fate in Fate if fate is not Fate.OK}
    expected |= {f"act: {what}" for what in ACTS if what != "cards"}
    expected |= {f"coordinator: {what}" for what in ("changes its mind", "garbage", "hands out again")}
    expected |= {"disk: append: kept, and reported as failed", "machine: an I/O error in an effect"}
    assert expected <= faults.keys()
    assert set(crashes) == set(CrashKind)
    assert min(crashes.values()) > 20
    assert checked.keys() == PROMISES.keys()
    assert any("the lease of" in line for line in lines)
    assert any("arrives late" in line for line in lines)
    assert simulated_s > 60 * 3600
