"""Disks whose power can be cut; whatever happens, none stays mounted and nothing stays alive."""

import pytest

from tests.power.disk import CutDisk, why_not
from tests.power.machine import Machine
from tests.support.needs import lacking


@pytest.fixture
def disk(tmp_path):
    """A mounted file system whose power can be cut."""
    problem = why_not()
    if problem is not None:
        lacking(problem)
    made = CutDisk(tmp_path)
    try:
        made.mount()
        yield made
    finally:
        made.close()


@pytest.fixture
def machines(tmp_path, disk):
    """Make the machine of a test: `machines(*coordinator_options, **config)`."""
    made = []

    def make(*options, **config):
        made.append(Machine(tmp_path, disk, *options, **config))
        made[-1].node.start()
        return made[-1]

    try:
        yield make
    finally:
        for machine in made:
            machine.close()
