"""A journal that can't write for a quarter of an hour, while the coordinator wants something."""

import pytest

from tests.simulation.worksite import Behaviour
from tests.simulation.world import JobSpec, Scenario, simulate


def _fill(world):
    world.disk.full = True


def _cancel(world):
    world.server.cancel("j1")


def _stop(world):
    world.stop_asked.set()


def _scenario(*acts):
    filled = (3.0, "the disk is full", _fill)
    return Scenario(1, [JobSpec("j1", 0.1, Behaviour(2000.0))], acts=[filled, *acts], fair_from_s=900.0)


@pytest.mark.parametrize(
    "acts",
    [[(4.0, "cancel", _cancel)], [(4.0, "cancel", _cancel), (60.0, "stop", _stop)]],
    ids=["waiting for room", "stopped meanwhile"],
)
def test_a_cancel_waits_for_the_disk_and_the_heartbeat_for_nothing(acts):
    report = simulate(_scenario(*acts))
    assert report.outcomes["j1", 1][0] == "fail"
    assert "E_CANCELLED" in report.outcomes["j1", 1][1]
    assert report.simulated_s < 1000
    assert not any("the lease of" in line for line in report.history)


def test_a_run_that_ends_while_the_disk_is_full_is_delivered_when_it_is_not():
    scenario = Scenario(
        1, [JobSpec("j1", 0.1, Behaviour(10.0))], acts=[(3.0, "the disk is full", _fill)], fair_from_s=900.0
    )
    report = simulate(scenario)
    assert report.outcomes["j1", 1][0] == "result"
    assert report.lives == 1
