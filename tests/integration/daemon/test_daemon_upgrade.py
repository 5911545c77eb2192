"""An upgrade in the middle of a job, with two versions that are really different programs; and a journal that rots.

The other version is a copy of the installed packages with changes of its own, put first on the path.
"""

import importlib
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from journal import StreamKey, open_reader
from tests.integration.daemon.rig import MARKER, TOKEN, Node, printed, until

PACKAGES = ("fsm_miner", "states", "journal", "runners")
WAITS = "echo up >&2; while ! test -e go; do sleep 0.02; done; echo end"


class Version:
    """Another version, below `folder`."""

    def __init__(self, folder):
        self.folder = folder
        for name in PACKAGES:
            source = Path(importlib.import_module(name).__file__).parent
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))

    def change(self, file, old, new):
        path = self.folder / file
        text = path.read_text()
        assert old in text, f"{file} has no {old!r}"
        path.write_text(text.replace(old, new))

    @property
    def env(self):
        return {"PYTHONPATH": str(self.folder), "PYTHONDONTWRITEBYTECODE": "1"}

    def check_journal(self, node):
        return subprocess.run(
            [sys.executable, "-P", "-m", "fsm_miner.cli", "check", "--journal", str(node.journal_file)],
            cwd=self.folder,
            env={
                "PATH": os.environ["PATH"],
                MARKER: str(node.folder.parent),
                "MINER_AUTH": TOKEN,
                **self.env,
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture
def newer(tmp_path):
    """A later version: `Acked` says `lease_seconds`, and its upcaster reads how that was called before."""
    made = Version(tmp_path / "newer")
    made.change("fsm_miner/__init__.py", "= version(", '= "9." + version(')
    made.change(
        "states/events.py", "    lease_s: float | None = None", "    lease_seconds: float | None = None"
    )
    made.change("states/evolve.py", '{"lease_s": event.lease_s}', '{"lease_s": event.lease_seconds}')
    made.change(
        "states/events.py",
        "MappingProxyType(dict.fromkeys(EVENTS, 1))",
        'MappingProxyType({**dict.fromkeys(EVENTS, 1), "Acked": 2})',
    )
    made.change(
        "fsm_miner/upcasters.py",
        "Upcasters({})",
        'Upcasters({("Acked", 1): lambda data: {"lease_seconds": data["lease_s"]}})',
    )
    return made


@pytest.fixture
def heretic(tmp_path):
    """A version to which a launch is no start of anything."""
    made = Version(tmp_path / "heretic")
    made.change("fsm_miner/__init__.py", "= version(", '= "666." + version(')
    made.change("states/table.py", 'Rule("Launched", _S.PREP, _S.RUNNING)', 'Rule("Launched", _S.PREP, None)')
    return made


def bytes_of(node):
    return {
        suffix: node.journal_file.with_name(node.journal_file.name + suffix).read_bytes()
        for suffix in ("", "-wal")
        if node.journal_file.with_name(node.journal_file.name + suffix).exists()
    }


def version_of(node):
    return node.health()["version"]


def test_a_job_goes_on_through_an_upgrade_and_is_done_once(rigs, newer):
    rig = rigs()
    old = version_of(rig.node)
    first = rig.coordinator.run(printed("echo x"))["job_id"]
    (job_id,) = rig.coordinator.submit(printed(WAITS))
    rig.node.await_printed(job_id, "up")
    sandbox = rig.node.sandbox_pid(job_id)

    asked = newer.check_journal(rig.node)  # beside the running daemon
    assert asked.returncode == 0, asked.stdout + asked.stderr
    assert "reads all of it as it was written" in asked.stdout

    rig.node.stop()
    rig.node.env = newer.env
    rig.node.start()
    assert version_of(rig.node) == f"9.{old}"
    rig.node.await_event(job_id, "Reattached")
    assert rig.node.sandbox_pid(job_id) == sandbox
    (rig.node.jobs / job_id / "work" / "go").touch()
    view = rig.coordinator.wait(job_id)
    assert [one["kind"] for one in view["outcomes"]] == ["result"]
    assert rig.coordinator.artifact(job_id, "out.txt") == b"end\n"
    later = rig.coordinator.run(printed("echo y"))["job_id"]

    with open_reader(rig.node.journal_file) as reader:
        versions = {
            key: [one.version for one in reader.stored(key) if one.event == "Acked"]
            for key in (StreamKey(name, 1) for name in (first, job_id, later))
        }
        assert list(versions.values()) == [[1], [1], [2]]
        assert reader.notes()["version"] == f"9.{old}"

    # And back: the old one can't read the facts of the new one, and leaves everything as it is.
    rig.node.stop()
    before = bytes_of(rig.node)
    rig.node.env = {}
    rig.node.start(wait=False)
    assert rig.node.exit_code() == 5
    assert bytes_of(rig.node) == before
    (refused,) = rig.node.log("journal_refused")
    for word in (f"{later}/1: record 2: Acked: ", "has version 2", f"go back to version 9.{old}"):
        assert word in refused["attrs"]["problem"]
    rig.node.env = newer.env
    rig.node.start()
    rig.node.stop()
    # The rig's own last look would read it as the old version does.
    rig.node.journal_file.rename(rig.folder / "journal.db")


def test_a_version_that_reads_otherwise_refuses_and_the_old_one_goes_on(rigs, heretic):
    rig = rigs()
    done = rig.coordinator.run(printed("echo x"))["job_id"]
    (job_id,) = rig.coordinator.submit(printed(WAITS))
    rig.node.await_printed(job_id, "up")

    asked = heretic.check_journal(rig.node)
    assert asked.returncode == 5, asked.stderr
    for word in (f"{done}/1: record 5: Launched", f"{job_id}/1: record 5", "PREP → RUNNING", "exit code 5"):
        assert word in asked.stdout

    # Beside the living one it does not even look.
    rig.node.restart()
    other = Node(
        rig.folder / "other",
        rig.coordinator.base_url,
        journal={"path": str(rig.node.journal_file)},
    )
    other.env = heretic.env
    other.start(wait=False)
    assert other.exit_code() == 4
    said = other.output.read_text()
    url = rig.node.status_url()
    for word in (f"process {rig.node.pid}, version {version_of(rig.node)}, since 2", f"its page: {url}"):
        assert word in said

    rig.node.kill()  # as an old one may leave its files: with a log
    before = bytes_of(rig.node)
    assert "-wal" in before
    rig.node.env = heretic.env
    rig.node.start(wait=False)
    assert rig.node.exit_code() == 5
    assert bytes_of(rig.node) == before
    (refused,) = rig.node.log("journal_refused")
    for word in (
        "reads 2 of 2 streams otherwise",
        f"{job_id}/1: record 5: Launched",
        "jobs go on",
        "go back to",
    ):
        assert word in refused["attrs"]["problem"]

    rig.node.env = {}
    rig.node.start()
    (rig.node.jobs / job_id / "work" / "go").touch()
    view = rig.coordinator.wait(job_id)
    assert [one["kind"] for one in view["outcomes"]] == ["result"]
    assert rig.node.events(job_id).count("Launched") == 1


def rot_of(node, job_id):
    """Change a record of a job behind everybody's back; the database's structure stays sound."""
    with closing(sqlite3.connect(node.journal_file, isolation_level=None)) as conn:
        (trigger,) = conn.execute("SELECT sql FROM sqlite_master WHERE name = 'records_no_update'").fetchone()
        conn.execute("BEGIN IMMEDIATE")
        conn.execute("DROP TRIGGER records_no_update")
        conn.execute("UPDATE records SET at_ns = 1 WHERE job_id = ? AND seq = 4", (job_id,))
        conn.execute(trigger)
        conn.execute("COMMIT")


def test_rot_in_what_is_over_is_found_beside_the_work_and_salvaged_by_the_next_start(rigs):
    rig = rigs()
    done = rig.coordinator.run(printed("echo x"))["job_id"]
    rig.node.stop()
    rot_of(rig.node, done)
    rig.node.start()
    assert not rig.node.log("journal_salvaged")
    until(lambda: rig.node.log("journal_damaged"), "the check beside the work finds it")
    found = rig.node.health()
    assert found["status"] == "degraded"
    assert any(f"{done}/1: record 4" in trouble for trouble in found["trouble"])
    assert rig.coordinator.run(printed("echo y"))["state"] == "done"
    rig.node.stop()
    rig.node.start()
    assert rig.node.log("journal_salvaged")
    assert [one for one in rig.node.health()["trouble"] if "kept" not in one] == []
    assert not rig.node.journal_file.with_name("journal.db.suspect").exists()
    # What came after a bad record can't be trusted: the attempt ends anew, and the coordinator keeps one outcome.
    rig.node.await_event(done, "Delivered")
    assert len(rig.coordinator.outcomes(done)) == 1


def test_a_database_that_breaks_under_the_daemon_is_salvaged_without_losing_a_job(rigs):
    rig = rigs()
    (job_id,) = rig.coordinator.submit(printed(WAITS))
    rig.node.await_printed(job_id, "up")
    rig.node.restart()  # so that the log is folded in, and the pages are read from the file
    rig.node.await_event(job_id, "Reattached")
    pid = rig.node.pid
    with closing(sqlite3.connect(rig.node.journal_file, isolation_level=None)) as conn:
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        pages = [
            page
            for (page,) in conn.execute(
                "SELECT rootpage FROM sqlite_master WHERE name IN ('records_key', 'records_first')"
            )
        ]
    with rig.node.journal_file.open("r+b") as file:
        for page in pages:
            file.seek((page - 1) * 4096)
            file.write(b"\xff" * 64)
    (rig.node.jobs / job_id / "work" / "go").touch()
    until(lambda: rig.node.log("journal_salvaged"), "the daemon begins anew and salvages", 60)
    view = rig.coordinator.wait(job_id)
    assert [one["kind"] for one in view["outcomes"]] == ["result"]
    assert rig.coordinator.artifact(job_id, "out.txt") == b"end\n"
    assert rig.node.pid == pid
    assert rig.node.events(job_id).count("Launched") == 1
    assert "begins anew" in rig.node.log("journal_damaged")[0]["attrs"]["then"]
