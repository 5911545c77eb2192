"""The package on Debian 12 and 13, under the real kernel, cgroup v2 and systemd: what inside/scenarios.py plays.

How it works, how to look into a failure, and what it costs: docs/system-tests.md.
"""

import json

import pytest

from tests.system.exposure import documented_exposure
from tests.system.images import RELEASES
from tests.system.machine import SCENARIOS, plays


# The first test waits for the machines, and the disks are made before if there are none.
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("release", "scenario"),
    [(release.name, name) for release in RELEASES for name in SCENARIOS if plays(release, name)],
)
def test_scenario(machines, release, scenario):
    machine = machines[release]
    result = machine.results().get(scenario)
    assert result is not None, f"{scenario} was not reached\n{machine.story()}"
    print(json.dumps(result["facts"], indent=1))
    assert result["ok"], f"{release}: {scenario}:\n{result['problem']}"


@pytest.mark.timeout(1200)
def test_nothing_of_the_machines_is_left(machines):
    for machine in machines.values():
        assert machine.process.returncode == 0, machine.story()
        assert machine.left() == []


@pytest.mark.timeout(1200)
def test_the_figures_are_those_of_the_documents(machines):
    for document, said in documented_exposure().items():
        for machine in machines.values():
            found = machine.results()["security_figures"]["facts"]["exposure"]
            assert said == found, (document, machine.release.name)
