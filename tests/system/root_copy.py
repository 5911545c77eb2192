"""A copy of this machine's root for a script to do as it likes in: overlayfs, in a mount namespace of its own.

What is written to / goes into memory, and with the namespace. There is no systemd in it.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests.support.needs import lacking

PLAYED = Path(__file__).parent / "in_copy"
_ENTER = """\
set -eu
mount -t tmpfs -o "size=$3" none "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
mount --rbind /proc "$1/root/proc"
mount --rbind /dev "$1/root/dev"
mount -t tmpfs none "$1/root/run"
mkdir "$1/root/checkout"
mount --bind "$2" "$1/root/checkout"
exec chroot "$1/root" /usr/bin/python3 -B "/checkout/played/$4"
"""


def play(name: str, checkout: Path, scratch: Path, *, size: str = "50%") -> Any:
    """Run a file of in_copy/ with `checkout` as /checkout; return what it printed, as JSON.

    `size` is that of everything that may be written, as mount's tmpfs takes it.
    """
    if os.geteuid() != 0:
        lacking("mounting needs root")
    shutil.copytree(PLAYED, checkout / "played", ignore=shutil.ignore_patterns("__pycache__"))
    scratch.mkdir()
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", _ENTER, "sh", str(scratch), str(checkout), size, name],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PIP_NO_INDEX": "1", "HOME": "/root"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)
