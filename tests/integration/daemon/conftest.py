"""Rigs of a coordinator and a node; whatever happens, nothing of them outlives its test."""

import pytest

from runners.host import HostProblems, probe_host
from tests.integration.daemon import small_disks
from tests.integration.daemon.rig import Rig, end_all
from tests.support.needs import lacking


@pytest.fixture(scope="session", autouse=True)
def _sandbox():
    found = probe_host()
    if isinstance(found, HostProblems):
        message = "; ".join(found.problems)
        lacking(message)


class _Rigs:
    def __init__(self, folder):
        self.folder = folder
        self.made = []

    def __call__(self, *options, start=True, **config):
        """Start a coordinator with `options`, and a node with `config` unless `start` is false."""
        rig = Rig(self.folder / f"rig-{len(self.made)}", *options, **config)
        self.made.append(rig)
        if start:
            rig.node.start()
        return rig

    def close(self):
        problems = []
        for rig in self.made:
            try:
                rig.close()
            except AssertionError as problem:
                problems.append(problem)
                print(rig.node.output.read_text()[-4000:])
        end_all(self.folder)
        if problems:
            raise problems[0]


@pytest.fixture
def rigs(tmp_path):
    """Make rigs for one test."""
    made = _Rigs(tmp_path)
    yield made
    made.close()


@pytest.fixture(scope="module")
def shared_rigs(tmp_path_factory):
    """Make rigs that the tests of one file share."""
    made = _Rigs(tmp_path_factory.mktemp("shared"))
    yield made
    made.close()


@pytest.fixture
def disks(tmp_path):
    """Make small disks for one test. Name it before `rigs`: what works on a disk must end first."""
    small_disks.need("mkfs.ext4")
    made = small_disks.Disks(tmp_path)
    yield made
    made.close()
