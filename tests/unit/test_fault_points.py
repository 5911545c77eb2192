"""Fault points: what the variable may say, who may set it, and that each is passed where its name says."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from fsm_miner.coordinator.port import Coordinator, Delivered, ResultReport, UploadFile
from fsm_miner.fault_points.points import FaultPoints
from fsm_miner.fault_points.ports import FaultyPorts
from fsm_miner.fault_points.spec import (
    CALLS,
    OPERATIONS,
    POINTS,
    SITE,
    VARIABLE,
    Die,
    FaultSpecError,
    ListPoints,
    Side,
    parse,
    take_spec,
)
from fsm_miner.fault_points.system import place_of
from fsm_miner.worksite import Worksite
from journal import Entry, MemoryJournal, StreamKey

ROOT = Path(__file__).parents[2]


class Died(Exception):
    pass


def die():
    raise Died


# What the variable may say.


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("before site.launch", Die(Side.BEFORE, "site.launch")),
        (
            "after journal.append:Ended+OutcomeKnown#3",
            Die(Side.AFTER, "journal.append:Ended+OutcomeKnown", 3),
        ),
        ("after coordinator.result@j-1.a_b", Die(Side.AFTER, "coordinator.result", 1, "j-1.a_b")),
        ("before file.open:control/lock#2@j", Die(Side.BEFORE, "file.open:control/lock", 2, "j")),
        ("raise coordinator.pull#2", Die(Side.RAISE, "coordinator.pull", 2)),
        ("list /var/tmp/points", ListPoints(Path("/var/tmp/points"))),
    ],
)
def test_a_specification_is_read(text, spec):
    assert parse(text) == spec


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not `before POINT`"),
        ("1", "not `before POINT`"),
        ("site.launch", "not `before POINT`"),
        ("during site.launch", "not `before POINT`"),
        ("before site.launch#0", "not `before POINT`"),
        ("before site.launch now", "not `before POINT`"),
        ("before site.lunch", "no point 'site.lunch'"),
        ("before journal.append:", "no point"),
        ("before journal.append:Ended+Nothing", "no point"),
        ("before file.open:/etc/passwd", "no point"),
        ("after process.spawn", "only the side before"),
        ("list points", "absolute path"),
    ],
)
def test_a_bad_specification_is_refused_in_words(text, words):
    with pytest.raises(FaultSpecError) as refused:
        parse(text)
    assert words in str(refused.value)
    assert str(refused.value).startswith(f"{VARIABLE}={text!r}: ")


@pytest.mark.parametrize("point", POINTS)
def test_each_name_can_be_asked_for(point):
    assert parse(f"before {point}") == Die(Side.BEFORE, point)


def test_the_variable_is_taken_from_the_environment():
    environ = {VARIABLE: "before site.stop", "PATH": "/bin"}
    assert take_spec(environ) == Die(Side.BEFORE, "site.stop")
    assert environ == {"PATH": "/bin"}
    assert take_spec(environ) is None


def test_one_place_reads_the_environment():
    """Nothing that a coordinator or a job says can come near."""
    uses = {
        path.relative_to(ROOT / "fsm_miner").as_posix()
        for path in (ROOT / "fsm_miner").rglob("*.py")
        if "take_spec(" in path.read_text() or "FaultPoints(" in path.read_text()
    }
    assert uses == {"start.py", "fault_points/spec.py"}


@pytest.mark.parametrize("text", ["before site.lunch", "list /nowhere/at/all"])
def test_the_daemon_refuses_to_start_on_a_bad_one(tmp_path, text):
    command = [sys.executable, "-P", "-m", "fsm_miner", "--config", str(tmp_path / "config.yaml")]
    started = subprocess.run(command, capture_output=True, text=True, check=False, env={VARIABLE: text})
    assert started.returncode == 2
    assert text.split()[-1] in started.stderr
    assert "Traceback" not in started.stderr


# Passing.


def test_dies_on_its_side_at_its_time_and_for_its_job_only():
    points = FaultPoints(parse("after site.stop#2@b"), die)
    for job in ("a", "b", "a", "a"):
        with points.around("site.stop", job):
            pass
    points.before("site.stop", "b")
    with pytest.raises(Died), points.around("site.stop", "b"):
        pass


def test_what_failed_has_no_after():
    points = FaultPoints(parse("after site.stop"), die)
    with pytest.raises(OSError, match="no"), points.around("site.stop", "a"):
        raise OSError("no")


def test_a_thread_works_for_the_job_that_it_was_sent_for():
    points = FaultPoints(parse("before process.spawn@b"), die)

    async def work(job):
        with points.around("site.launch", job):
            await asyncio.to_thread(points.before, "process.spawn")

    asyncio.run(work("a"))
    with pytest.raises(Died):
        asyncio.run(work("b"))


def test_the_list_names_each_pass_in_order(tmp_path):
    points = FaultPoints(ListPoints(tmp_path / "points"))
    with points.around("site.launch", "a"):
        points.before("process.spawn")
    points.before("file.open:other")
    points.close()
    assert (tmp_path / "points").read_text().splitlines() == [
        "before site.launch a",
        "before process.spawn a",
        "after site.launch a",
        "before file.open:other -",
    ]


def test_dying_is_a_sigkill():
    code = (
        "from fsm_miner.fault_points.points import FaultPoints; from fsm_miner.fault_points.spec import parse;"
        "FaultPoints(parse('before process.spawn')).before('process.spawn'); print('alive')"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (-signal.SIGKILL, "")


# The ports.


def methods(protocol):
    return {name for name in vars(protocol) if not name.startswith("_")}


def test_every_method_of_a_port_has_a_point():
    assert methods(Coordinator) - {"close"} == set(CALLS)
    assert methods(Worksite) - {"end_recorded", "forget"} == set(SITE)


def test_an_append_dies_before_and_after_it_is_kept():
    async def append(spec):
        journal = MemoryJournal(boot_id="b", now_ns=lambda: 1)
        faulty = FaultyPorts(FaultPoints(parse(spec), die)).journal(journal)
        key = StreamKey("j", 1)
        entries = [Entry("Offered", 1, "IDLE", "PULLING", {}), Entry("Acked", 1, "PULLING", "ACKED", {})]
        with pytest.raises(Died):
            await faulty.append(key, 0, entries)
        return len(journal.read(key))

    assert asyncio.run(append("before journal.append:Offered+Acked@j")) == 0
    assert asyncio.run(append("after journal.append:Offered+Acked@j")) == 2


def test_an_upload_dies_after_some_pieces(tmp_path):
    (tmp_path / "f").write_bytes(b"0123456789")
    sent = []

    class Taker:
        async def result(self, report):
            sent.extend(os.pread(report.artifacts[0].fd, 2, offset) for offset in range(0, 10, 2))
            return Delivered(200)

    async def deliver():
        fd = os.open(tmp_path / "f", os.O_RDONLY)
        try:
            report = ResultReport("j", 1, {}, (UploadFile(fd, 10, "artifacts/f", "a/b"),), None)
            ports = FaultyPorts(FaultPoints(parse("before upload.chunk#4@j"), die))
            await ports.coordinator(Taker()).result(report)
        finally:
            os.close(fd)

    with pytest.raises(Died):
        asyncio.run(deliver())
    assert sent == [b"01", b"23", b"45"]


def test_a_download_dies_after_some_pieces():
    got = []

    async def body():
        for n in range(5):
            yield b"%d" % n

    async def fetch():
        transport = httpx.MockTransport(lambda _: httpx.Response(200, content=body()))
        points = FaultPoints(parse("before download.chunk#3"), die)
        client = FaultyPorts(points).inputs(httpx.AsyncClient(transport=transport))
        async with client, client.stream("GET", "http://127.0.0.1/x") as response:
            async for piece in response.aiter_raw():
                got.append(piece)  # noqa: PERF401 - to be seen when it dies

    with pytest.raises(Died):
        asyncio.run(fetch())
    assert got == [b"0", b"1"]


# What Python announces.


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/r/jobs/j-1", ("job", "j-1")),
        ("/r/jobs/j-1@2/work", ("work", "j-1")),
        ("/r/jobs/j-1/work/a/b/c", ("work/*", "j-1")),
        ("/r/jobs/j-1/input/.part-7", ("input/.part", "j-1")),
        ("/r/jobs/j-1/input/name", ("input/*", "j-1")),
        ("/r/jobs/j-1/control/run-12.lock", ("control/lock", "j-1")),
        ("/r/jobs/j-1/control/task-1.json", ("control/task", "j-1")),
        ("/r/jobs/j-1/logs/exec.3.log", ("logs/*", "j-1")),
        ("/r/jobs/j-1/.state.json.tmp", ("state.json", "j-1")),
        ("/r/jobs/j-1/strange", ("other", "j-1")),
        ("/r/jobs/.trash-j-1-00", ("trash", None)),
        ("/r/jobs/-strange", ("other", None)),
        ("/r/jobs", None),
        ("/r/jobs2/j-1", None),
        ("/etc/passwd", None),
        (None, None),
    ],
)
def test_a_path_is_a_place(path, place):
    assert place_of(Path("/r/jobs"), path) == place
    assert place is None or f"file.open:{place[0]}" in POINTS


def test_changes_of_files_and_spawns_are_points(tmp_path):
    """In a process of its own: a hook stays for ever."""
    (tmp_path / "jobs").mkdir()
    code = """
import os, sys
from pathlib import Path
from fsm_miner.fault_points.points import FaultPoints
from fsm_miner.fault_points.spec import ListPoints
from fsm_miner.fault_points.system import watch_system
top = Path(sys.argv[1])
points = FaultPoints(ListPoints(top / "points"))
watch_system(points, top / "jobs")
job = top / "jobs" / "j"
job.mkdir()
(job / "control").mkdir()
os.close(os.open(job / "control" / "run-1.lock", os.O_RDWR | os.O_CREAT | os.O_EXCL))
(job / "control" / "run-1.lock").read_bytes()
folder = os.open(job, os.O_RDONLY)
(job / "work").mkdir()
(job / "work" / "l").symlink_to("/nowhere")
os.rename("work", "output", src_dir_fd=folder, dst_dir_fd=folder)
os.unlink("output/l", dir_fd=folder)
os.rmdir(b"output", dir_fd=folder)
(job / "control" / "run-1.lock").chmod(0o600)
os.truncate(str(job / "control" / "run-1.lock"), 0)
os.posix_spawn("/bin/true", ["true"], {})
(top / "elsewhere").mkdir()
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    assert (tmp_path / "points").read_text().splitlines() == [
        f"before {line}"
        for line in (
            "file.mkdir:job j",
            "file.mkdir:control j",
            "file.open:control/lock j",
            "file.mkdir:work j",
            "file.symlink:work/* j",
            "file.rename:output j",
            "file.remove:output/* j",
            "file.rmdir:output j",
            "file.chmod:control/lock j",
            "file.truncate:control/lock j",
            "process.spawn -",
        )
    ]


def test_the_document_names_the_points():
    document = (ROOT / "docs" / "fault-points.md").read_text(encoding="utf-8")
    missing = [name for name in (*CALLS, *SITE, *OPERATIONS) if f"`{name}`" not in document]
    assert missing == []
    for text in re.findall(r"FSM_MINER_FAULT='(.*?)'", document):
        parse(text)
    named = set(re.findall(r"`([a-z]+\.[a-z]+)[:`]", document))
    assert named >= {"journal.append", "process.spawn", "upload.chunk", "download.chunk"}
