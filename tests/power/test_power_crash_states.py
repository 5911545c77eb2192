"""Cuts at every write: whatever a disk may hold then, the journal opens, and what it had confirmed is there."""

import asyncio
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path

import pytest

from journal import Entry, StreamKey, open_journal, read_export
from tests.power import workloads
from tests.power.crash_states import SYNC, UNLINK, WRITE, Disk, read_trace
from tests.support.needs import lacking

FATES = ("none", "all", "first", "first", "any", "any", "any")
HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def tracer(tmp_path_factory):
    """The library that writes down what a process does to a folder."""
    if shutil.which("gcc") is None:
        lacking("gcc is needed to build the tracer")
    built = tmp_path_factory.mktemp("tracer") / "trace.so"
    command = ["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", built, HERE / "trace.c", "-ldl"]
    subprocess.run(command, check=True)
    return built


@pytest.fixture
def trace(tracer, tmp_path):
    """Run a workload on a copy of a folder; return its trace."""

    def run(name, start):
        folder, file = tmp_path / "traced", tmp_path / "trace"
        folder.mkdir()
        disk = Disk(folder)
        for path in start.iterdir():
            shutil.copy(path, folder)
        disk = Disk(folder)
        env = {
            **os.environ,
            "LD_PRELOAD": str(tracer),
            "POWER_TRACE_FOLDER": str(folder),
            "POWER_TRACE_FILE": str(file),
        }
        subprocess.run([sys.executable, "-P", HERE / "workloads.py", name, folder], env=env, check=True)
        return disk, read_trace(file)

    return run


def lay_out(folder, files, chance):
    """Write what the cut has left."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, content in sorted(files.items()):
        if content is None:
            (folder / name).mkdir()
        elif name.endswith("-shm"):
            # Written through memory, so the trace does not know what is in it: any earlier form, or rubbish.
            index = chance.choice((b"", bytes(32768), chance.randbytes(32768), content))
            (folder / name).write_bytes(index)
        else:
            (folder / name).write_bytes(content)


def confirmed(marks):
    """Return (stream: hashes in order) of what the workload was told is durable."""
    found = {}
    for line in b"".join(marks).decode().splitlines():
        job_id, attempt, seq, digest = line.split()
        hashes = found.setdefault(StreamKey(job_id, int(attempt)), [])
        assert len(hashes) == int(seq) - 1
        hashes.append(digest)
    return found


def reopen(folder):
    """Open, read everything, append, close."""

    async def main():
        journal, report = open_journal(folder / "j.db", boot_id="c", now_ns=count(2 * 10**18).__next__)
        streams = {key: journal.read(key) for key in journal.streams()}
        assert journal.verify().keys() == streams.keys()
        longest = max(streams, key=lambda key: len(streams[key]), default=StreamKey("new", 1))
        for key in {longest, StreamKey("another", 1)}:
            await journal.append(key, len(streams.get(key, ())), [Entry("E", 1, "A", "B", {})])
        await journal.close()
        return streams, report

    return asyncio.run(main())


def exported(folder):
    """Return (stream: hashes) of the streams that the journal calls exported, from their exports."""
    with closing(sqlite3.connect(folder / "j.db")) as conn:
        sealed = conn.execute("SELECT job_id, attempt, export FROM sealed").fetchall()
    found = {}
    for job_id, attempt, export in sealed:
        records = read_export(folder / "journal-archive" / export)
        found[StreamKey(job_id, attempt)] = [r.hash for r in records if r.key == (job_id, attempt)]
    return found


def check_batches(streams):
    for records in streams.values():
        batches = Counter(r.data["batch"] for r in records if "batch" in r.data)
        for record in records:
            if "batch" in record.data:
                assert batches[record.data["batch"]] == record.data["of"], "half of an append is there"


def check_confirmed(folder, marks):
    streams, report = reopen(folder)
    hashes = {key: [r.hash for r in records] for key, records in streams.items()}
    hashes |= exported(folder)
    for key, wanted in confirmed(marks).items():
        assert hashes.get(key, [])[: len(wanted)] == wanted, f"{key} lost something that was confirmed"
    check_batches(streams)
    return report


def cuts(disk, steps, chance):
    """Yield (where, files) for a cut after each step, each disk once for each thing that was confirmed by then."""
    seen = set()
    for number, step in enumerate(steps):
        disk.follow(step)
        for fate in FATES:
            files = disk.left(chance, fate)
            known = (len(disk.marks), *((n, c) for n, c in sorted(files.items()) if not n.endswith("-shm")))
            if hash(known) not in seen:
                seen.add(hash(known))
                yield f"after step {number} of {len(steps)} ({step.kind} {step.name}), fate {fate}", files


@contextmanager
def explained(where):
    """Say which cut a failure belongs to."""
    try:
        yield
    except Exception as problem:
        raise AssertionError(f"a cut {where}: {problem!r}") from problem


@pytest.fixture
def fast(tmp_path):
    """A folder on which fsync costs nothing, where there may be one."""
    folder = tmp_path / "fast"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "none", folder]
    mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    yield folder
    if mounted:
        subprocess.run(["umount", folder], check=True)


def test_the_tracer_sees_what_sqlite_does(trace, tmp_path):
    (tmp_path / "empty").mkdir()
    _, steps = trace("life", tmp_path / "empty")
    kinds = Counter((step.kind, step.name.rpartition("-")[2]) for step in steps)
    for wanted in (
        (WRITE, "wal"),
        (SYNC, "wal"),
        (WRITE, "j.db"),
        (SYNC, "j.db"),
        (UNLINK, "wal"),
        (SYNC, ""),
    ):
        assert kinds[wanted] >= 3, kinds
    traced = tmp_path / "traced"
    left = Disk(tmp_path / "empty")
    for step in steps:
        left.follow(step)
    whole = left.left(random.Random(1), "all")
    there = {p.relative_to(traced).as_posix() for p in traced.rglob("*")} - {"ACKNOWLEDGED"}
    assert {name for name in whole if not name.endswith("-shm")} == there
    for name, content in whole.items():
        assert name.endswith("-shm") or content is None or content == (traced / name).read_bytes(), name


def test_a_life_cut_at_every_write(trace, tmp_path, fast):
    (tmp_path / "empty").mkdir()
    disk, steps = trace("life", tmp_path / "empty")
    chance = random.Random(11)
    states = 0
    for where, files in cuts(disk, steps, chance):
        with explained(where):
            lay_out(fast / "cut", files, chance)
            report = check_confirmed(fast / "cut", disk.marks)
            assert report is None, report
        states += 1
    print(f"{states} states of {len(steps)} steps, {len(disk.marks)} appends")
    assert states > 1000


def damaged(folder):
    """Return the files of a journal with a log, and half of a page of its database written over by zeros."""
    (folder / "sound").mkdir(parents=True)
    teller = workloads.Teller(folder / "sound")

    async def main():
        journal = teller.open()
        for n in range(12):
            await teller.append(journal, workloads.key(n), 3)
        await journal.close()
        journal = teller.open()
        for n in range(4):
            await teller.append(journal, workloads.key(n), 2)
        files = {p.name: p.read_bytes() for p in (folder / "sound").iterdir() if p.name != "ACKNOWLEDGED"}
        await journal.close()
        return files

    files = asyncio.run(main())
    os.close(teller.fd)
    torn = bytearray(files["j.db"])
    full = [at for at in range(4096, len(torn), 4096) if torn[at : at + 4096].count(b"xxxxxxxx") > 100]
    half = full[len(full) // 2] + 2048
    torn[half : half + 2048] = bytes(2048)
    files["j.db"] = bytes(torn)
    return files


def test_a_salvage_cut_at_every_write(trace, tmp_path, fast):
    files = damaged(tmp_path)
    start = tmp_path / "start"
    chance = random.Random(5)
    lay_out(start, files, chance)
    lay_out(fast / "undisturbed", files, chance)
    saved, report = reopen(fast / "undisturbed")
    assert report is not None
    assert 10 < report.records < 44
    disk, steps = trace("salvage", start)
    states = swaps = 0
    for where, left in cuts(disk, steps, chance):
        with explained(where):
            lay_out(fast / "cut", left, chance)
            streams, report = reopen(fast / "cut")
            for key, records in saved.items():
                assert streams[key][: len(records)] == records, f"{key} was salvaged, and is gone"
            hashes = {key: [r.hash for r in records] for key, records in streams.items()}
            for key, wanted in confirmed(disk.marks).items():
                assert hashes[key][: len(wanted)] == wanted
            aside = [p for p in (fast / "cut").iterdir() if ".damaged-" in p.name]
            for suffix in ("", "-wal"):
                (kept,) = [p for p in aside if p.name.partition("Z")[2] == suffix]
                assert kept.read_bytes() == files[f"j.db{suffix}"], "what was set aside is not what was there"
            swaps += report is not None
        states += 1
    print(f"{states} states of {len(steps)} steps, a salvage or a swap to finish in {swaps}")
    assert swaps > 50
