"""lintian, Debian's own judge, finds nothing in the package that is not explained."""

import os
import shutil
import subprocess

import pytest

from tests.system.images import package


def test_lintian_finds_nothing():
    missing = [tool for tool in ("lintian", "dpkg-deb") if shutil.which(tool) is None]
    if missing:
        assert os.environ.get("CI") != "true", f"missing: {missing}; CI must have it"
        pytest.skip(f"missing: {missing}")
    done = subprocess.run(
        ["lintian", "--fail-on", "error,warning", str(package())], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == ""
