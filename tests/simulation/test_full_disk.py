"""A journal that can't write for a quarter of an hour, while the coordinator wants something."""

import pytest

from tests.simulation.scenario import Act, JobSpec, Scenario
from tests.simulation.worksite import Behaviour
from tests.simulation.world import simulate

_FULL = Act(3.0, "the disk is full")
_CANCEL = Act(4.0, "cancel", "j1")


def _scenario(*acts, lasts_s=2000.0):
    return Scenario(1, (JobSpec("j1", 0.1, Behaviour(lasts_s)),), acts=(_FULL, *acts), fair_from_s=900.0)


@pytest.mark.parametrize(
    "acts",
    [[_CANCEL], [_CANCEL, Act(60.0, "SIGTERM")]],
    ids=["waiting for room", "stopped meanwhile"],
)
def test_a_cancel_waits_for_the_disk_and_the_heartbeat_for_nothing(acts):
    report = simulate(_scenario(*acts))
    assert report.outcomes["j1", 1][0] == "fail"
    assert "E_CANCELLED" in report.outcomes["j1", 1][1]
    assert report.simulated_s < 1000
    assert not any("the lease of" in line for line in report.history)


def test_a_run_that_ends_while_the_disk_is_full_is_delivered_when_it_is_not():
    report = simulate(_scenario(lasts_s=10.0))
    assert report.outcomes["j1", 1][0] == "result"
    assert report.lives == 1
