"""The daemon, or the whole machine, ends before and after every append and every effect; then it starts again."""

from dataclasses import replace

import pytest

from tests.simulation.crash import CrashKind
from tests.simulation.scripts import SCRIPTS
from tests.simulation.world import simulate

_SHORT = ("success with artifacts", "inputs fail once", "cancelled while it runs", "given away while it runs")


def _crashed(name, crashes, downtime_s):
    return simulate(replace(SCRIPTS[name](), crashes=crashes, downtime_s=(downtime_s,)))


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_crash_at_any_point_breaks_no_promise(name):
    points = simulate(SCRIPTS[name]()).points
    crashed = 0
    for kind in CrashKind:
        # Shorter than any lease, and longer: then the coordinator has counted the attempt as over.
        for downtime_s in (2.0, 300.0):
            for point in range(1, len(points) + 1):
                report = _crashed(name, {point: kind}, downtime_s)
                crashed += report.crashes.total()
    assert crashed == len(points) * 4


@pytest.mark.parametrize("name", _SHORT)
def test_two_crashes_at_any_two_points_break_no_promise(name):
    first_points = len(simulate(SCRIPTS[name]()).points)
    crashed = 0
    # Every second point: before and after of neighbours are covered one by one above.
    for first in range(1, first_points + 1, 2):
        kinds = [CrashKind.KILL, CrashKind.POWER_CUT]
        points = len(_crashed(name, {first: kinds[0]}, 2.0).points)
        for second in range(first + 1, points + 1, 2):
            kinds.reverse()
            report = _crashed(name, {first: kinds[0], second: kinds[1]}, 2.0)
            crashed += report.crashes.total()
    assert crashed > first_points


def test_the_points_are_before_and_after_every_append_and_effect():
    points = simulate(SCRIPTS["success with artifacts"]()).points
    for what in (
        "append j1/1 LaunchIntended",
        "launch j1/1",
        "ack j1/1",
        "result j1/1",
        "prepare j1/1",
        "collect j1/1",
    ):
        assert {f"before {what}", f"after {what}"} <= set(points)
    assert "between lock and spawn j1/1" in points
