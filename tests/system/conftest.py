"""Both machines are booted once, at the same time, and go when the tests are over, whatever happens."""

import os
import shutil

import pytest

from tests.support.needs import lacking
from tests.system.images import RELEASES
from tests.system.machine import SCENARIOS, Machine

_TOOLS = {
    "linux.uml": "user-mode-linux",
    "mmdebstrap": "mmdebstrap",
    "mke2fs": "e2fsprogs",
    "dpkg-deb": "dpkg",
}
_DEADLINE_S = 720


def _unfit():
    missing = sorted({package for tool, package in _TOOLS.items() if shutil.which(tool) is None})
    if missing:
        return f"apt install {' '.join(missing)}"
    if os.geteuid() != 0:
        return "making a root file system of Debian needs root"
    return None


@pytest.fixture(scope="session")
def machines(tmp_path_factory):
    """Yield release name -> machine that has played all scenarios."""
    problem = _unfit()
    if problem is not None:
        lacking(problem)
    folder = tmp_path_factory.mktemp("machines")
    made = [Machine(release, folder / release.name) for release in RELEASES]
    try:
        # Each boots while the next one's disk is still being made.
        for machine in made:
            machine.prepare()
            machine.start(SCENARIOS)
        for machine in made:
            machine.wait(_DEADLINE_S)
        yield {machine.release.name: machine for machine in made}
    finally:
        for machine in made:
            machine.kill()
            (machine.folder / "disk.cow").unlink(missing_ok=True)
