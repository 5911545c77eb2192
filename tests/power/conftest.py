"""Disks whose power can be cut; whatever happens, none stays mounted and nothing stays alive."""

import os

import pytest

from tests.power.disk import CutDisk, why_not


@pytest.fixture
def disk(tmp_path):
    """A mounted file system whose power can be cut."""
    problem = why_not()
    if problem is not None:
        if os.environ.get("CI") == "true":
            pytest.fail(problem)
        pytest.skip(problem)
    made = CutDisk(tmp_path)
    try:
        made.mount()
        yield made
    finally:
        made.close()
