"""A disk that is full: the batch fails, nothing of it is kept, and the journal goes on when there is room again.

The small disk is a tmpfs in a mount namespace of its own; it goes with the process.
"""

import shutil
import subprocess
import sys

from tests.support.needs import lacking

SCRIPT = """
import asyncio, sys
from itertools import count
from pathlib import Path
from journal import Entry, JournalUnavailable, StreamKey, open_journal

folder = Path(sys.argv[1])

async def main():
    journal, _ = open_journal(folder / "j.db", boot_id="b", now_ns=count(1).__next__)
    ballast = folder / "ballast"
    key = StreamKey("j", 1)
    fact = [Entry("E", 1, "A", "B", {"fill": "x" * 2000})]
    length = 0
    for _ in range(5):
        await journal.append(key, length, fact)
        length += 1
    with ballast.open("wb", buffering=0) as fill:
        try:
            while True:
                fill.write(bytes(4096))
        except OSError:
            pass
    failures = 0
    for _ in range(2000):
        batch = [journal.append(StreamKey("other", length * 10 + i), 0, fact) for i in range(3)]
        outcomes = await asyncio.gather(journal.append(key, length, fact), *batch, return_exceptions=True)
        assert all(isinstance(o, tuple | JournalUnavailable) for o in outcomes), outcomes
        if isinstance(outcomes[0], tuple):
            length += 1
        else:
            failures += 1
            assert len(journal.read(key)) == length
        if failures == 3:
            break
    assert failures == 3
    ballast.unlink()
    await journal.append(key, length, fact)
    assert len(journal.read(key)) == length + 1
    journal.verify()
    await journal.close()
    journal, salvage = open_journal(folder / "j.db", boot_id="b", now_ns=count(1).__next__)
    assert salvage is None
    assert len(journal.read(key)) == length + 1
    await journal.close()
    print("sound")

asyncio.run(main())
"""


def can_mount():
    if shutil.which("unshare") is None:
        return False
    probe = ["unshare", "--mount", "--map-root-user", "mount", "-t", "tmpfs", "none", "/mnt"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


def test_a_full_disk_fails_the_batch_and_the_journal_lives_on(tmp_path):
    if not can_mount():
        lacking("unshare --mount is not allowed here, and CI needs it")
    disk = tmp_path / "disk"
    disk.mkdir()
    command = 'mount -t tmpfs -o size=2m none "$1" && exec "$2" -c "$3" "$1"'
    done = subprocess.run(
        [
            "unshare",
            "--mount",
            "--map-root-user",
            "sh",
            "-c",
            command,
            "sh",
            str(disk),
            sys.executable,
            SCRIPT,
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.stdout, done.returncode) == ("sound\n", 0), done.stderr
    assert list(disk.iterdir()) == []
