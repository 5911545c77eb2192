"""lintian, Debian's own judge, finds nothing in the package that is not explained."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.system.images import package

ROOT = Path(__file__).parents[2]


def test_lintian_finds_nothing(tmp_path):
    missing = [tool for tool in ("lintian", "dpkg-deb") if shutil.which(tool) is None]
    if missing:
        assert os.environ.get("CI") != "true", f"missing: {missing}; CI must have it"
        pytest.skip(f"missing: {missing}")
    done = subprocess.run(
        [ROOT / "tools" / "lintian.sh", package()],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []  # it leaves files where it is let
