"""The demo, run for real: it must come out as expected, and notice when something does not."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
pytestmark = [pytest.mark.slow, pytest.mark.timeout(280)]


def demo(folder, *options):
    for tool in ("ffmpeg", "ffprobe", "bwrap"):
        if shutil.which(tool) is None:
            if os.environ.get("CI") == "true":
                pytest.fail(f"{tool} is missing")
            pytest.skip(f"{tool} is missing")
    return subprocess.run(
        [sys.executable, str(ROOT / "tools" / "demo.py"), "--dir", str(folder), "--plain", *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=250,
        check=False,
        env={name: value for name, value in os.environ.items() if name != "MINER_AUTH"},
    )


def test_everything_comes_out_as_expected(tmp_path):
    done = demo(tmp_path / "demo")
    assert done.returncode == 0, done.stdout
    assert "\x1b" not in done.stdout
    assert "Everything came out as expected." in done.stdout
    for code in ("E_DENY", "E_TIMEOUT"):
        assert re.search(rf"{code}\s+{code}", done.stdout), done.stdout
    assert "Reattached" in done.stdout
    assert done.stdout.count("LaunchIntended") == 1
    assert re.search(r"chain\s+holds", done.stdout)


def test_a_surprise_is_noticed(tmp_path):
    (tmp_path / "empty").mkdir()
    done = demo(tmp_path / "demo", "--allowlist", str(tmp_path / "empty"))
    assert done.returncode == 1, done.stdout
    assert "Everything came out as expected." not in done.stdout
