"""A writer is killed in the middle of a storm: what it had reported as durable is there, and the chains hold."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from journal import Damaged, StreamKey, open_journal, open_reader

WRITER = """
import asyncio, os, sys, time
from pathlib import Path
from journal import Entry, StreamKey, open_journal

async def main():
    journal, _ = open_journal(Path(sys.argv[1]), boot_id="b", now_ns=time.time_ns)

    async def storm(i):
        key = StreamKey(f"j-{i}", 1)
        for seq in range(len(journal.read(key)), 1_000_000):
            await journal.append(key, seq, [Entry("E", 1, "A", "B", {"i": seq})])
            # One write, so that a line is whole or absent.
            os.write(1, f"{i} {seq + 1}\\n".encode())

    await asyncio.gather(*(storm(i) for i in range(32)))

asyncio.run(main())
"""


def start(path):
    return subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE)


def follow(process, lines):
    """Read what the writer reports, `lines` of it; the highest number of each stream."""
    reported = {}
    for _ in range(lines):
        stream, seq = process.stdout.readline().split()
        reported[StreamKey(f"j-{stream.decode()}", 1)] = int(seq)
    return reported


def kill(process, reported):
    """Kill it, then read what it still had said."""
    os.kill(process.pid, signal.SIGKILL)
    rest, _ = process.communicate()
    for line in rest.decode().splitlines(keepends=True):
        if line.endswith("\n"):
            stream, seq = line.split()
            reported[StreamKey(f"j-{stream}", 1)] = int(seq)


def test_what_was_reported_survives_a_kill(tmp_path):
    path = tmp_path / "j.db"
    reported = {}
    for lines in (500, 3000, 1200):
        process = start(path)
        reported |= follow(process, lines)
        kill(process, reported)
        left = {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in tmp_path.iterdir()}
        assert sorted(left) == ["j.db", "j.db-shm", "j.db-wal"]
        with open_reader(path) as reader:
            heads = reader.verify()
        assert {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in tmp_path.iterdir()} == left
        assert {key: heads[key].seq for key in reported if heads[key].seq < reported[key]} == {}
    journal, salvage = open_journal(path, boot_id="b", now_ns=time.time_ns)
    assert salvage is None
    assert journal.verify().keys() >= reported.keys()

    asyncio.run(journal.close())


def test_a_reader_keeps_up_with_a_running_writer(tmp_path):
    path = tmp_path / "j.db"
    process = start(path)
    try:
        for _ in range(20):
            reported = follow(process, 300)
            with open_reader(path) as reader:
                heads = reader.verify()
            assert all(heads[key].seq >= seq for key, seq in reported.items())
    finally:
        kill(process, {})


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else")
def test_another_user_reads_what_only_root_may_write(tmp_path_factory):
    # Not below tmp_path, whose parents nobody else may enter.
    folder = Path("/var/tmp") / f"journal-test-{os.getpid()}"
    folder.mkdir(mode=0o755)
    path = folder / "j.db"
    look = (
        "import sys; from pathlib import Path; from journal import open_reader\n"
        "with open_reader(Path(sys.argv[1])) as r: print(sum(1 for _ in r.records()))"
    )
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    process = start(path)
    try:
        reported = follow(process, 200)
        for name in ("j.db", "j.db-wal", "j.db-shm"):
            (folder / name).chmod(0o644)
        for running in (True, False):
            if not running:
                kill(process, reported)
            try:
                done = subprocess.run(
                    [sys.executable, "-c", look, str(path)],
                    capture_output=True, text=True, user=65534, group=65534, extra_groups=[], env=environment,
                    check=False,
                )  # fmt: skip
            except PermissionError:
                pytest.skip("the interpreter lies where another user can't go")
            if "ModuleNotFoundError" in done.stderr or "Permission denied" in done.stderr:
                pytest.skip("the interpreter's packages can't be read by another user here")
            assert done.returncode == 0, done.stderr
            assert int(done.stdout) >= sum(reported.values()) - 1
    finally:
        if process.poll() is None:
            kill(process, {})
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()


def test_a_log_without_its_index_is_named_and_the_next_start_reads_it(tmp_path):
    path = tmp_path / "j.db"
    process = start(path)
    reported = follow(process, 300)
    kill(process, reported)
    (tmp_path / "j.db-shm").unlink()
    with pytest.raises(Damaged, match="start the daemon once"):
        open_reader(path)

    journal, salvage = open_journal(path, boot_id="b", now_ns=time.time_ns)
    heads = journal.verify()
    asyncio.run(journal.close())
    assert salvage is None
    assert all(heads[key].seq >= seq for key, seq in reported.items())
