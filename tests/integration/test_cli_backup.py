"""`fsm-miner backup`: a copy that holds, beside a writer that does not stop, and no copy where there can be none."""

import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing

import pytest

from journal import open_reader
from tests.support.cli_journal import alive, denied, environment, fsm_miner, rot, succeeded, write_journal

WRITER = """
import asyncio, sys
from pathlib import Path
from itertools import count
from journal import SqliteJournal, StreamKey
from tests.support.cli_journal import entries, succeeded, ticking

async def main():
    journal = SqliteJournal(Path(sys.argv[1]), boot_id="boot-1", now_ns=ticking())
    for number in count():
        life = entries(succeeded(f"j-{number}"))
        await journal.append(StreamKey(f"j-{number}", 1), 0, life[:1])
        await journal.append(StreamKey(f"j-{number}", 1), 1, life[1:])
        if number == 50:
            print("going", flush=True)

asyncio.run(main())
"""


@pytest.fixture
def journal(tmp_path):
    return write_journal(tmp_path / "journal.db", succeeded(), denied(), alive())


def backup(source, target, *words):
    return fsm_miner("backup", "--journal", source, *words, target)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def rows(path):
    with open_reader(path) as reader:
        return [record for key in reader.streams() for record in reader.stored(key)]


def test_a_copy_has_every_record_and_needs_nothing_beside_it(journal, tmp_path):
    before = journal.read_bytes()
    target = tmp_path / "backup" / "copy.db"
    target.parent.mkdir()
    done = backup(journal, target)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{target}: ")
    assert done.stdout.endswith(" KiB, 3 streams, 18 records\n")
    assert rows(target) == rows(journal)
    assert names(target.parent) == ["copy.db"]
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert journal.read_bytes() == before
    assert fsm_miner("verify", "--journal", target).returncode == 0


def test_beside_a_writer_that_does_not_stop(tmp_path):
    source = tmp_path / "journal.db"
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(source)],
        stdout=subprocess.PIPE,
        env=environment(PYTHONPATH=":".join(path for path in sys.path if path)),
    ) as writer:
        try:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"going\n"
            copies = [tmp_path / f"copy-{number}.db" for number in range(3)]
            for copy in copies:
                done = backup(source, copy)
                assert (done.returncode, done.stderr) == (0, ""), done
        finally:
            writer.kill()
    found = [rows(copy) for copy in copies]
    assert 8 * 50 <= len(found[0]) < len(found[1]) < len(found[2])
    # Each is the writer's work up to a moment: no record is missing in the middle.
    assert found[1][: len(found[0])] == found[0]
    assert found[2][: len(found[1])] == found[1]


def test_a_daemon_can_go_on_with_a_copy(journal, tmp_path):
    copy = tmp_path / "copy.db"
    assert backup(journal, copy).returncode == 0
    write_journal(copy, succeeded("j-9"))
    assert len(rows(copy)) == 18 + 8


def test_what_is_there_is_kept_unless_force_is_given(journal, tmp_path):
    target = tmp_path / "there"
    target.write_text("somebody's")
    done = backup(journal, target)
    assert (done.returncode, target.read_text()) == (1, "somebody's")
    assert "--force" in done.stderr
    assert backup(journal, target, "--force").returncode == 0
    assert len(rows(target)) == 18


def test_a_record_that_does_not_hold_is_copied_and_told(journal, tmp_path):
    rot(journal, "UPDATE records SET event = 'Delivered' WHERE job_id = 'j-1' AND seq = 2")
    target = tmp_path / "copy.db"
    done = backup(journal, target)
    assert done.returncode == 1
    assert "copied as it is, but" in done.stderr
    with closing(sqlite3.connect(target)) as conn:
        assert conn.execute("SELECT count(*) FROM records").fetchone() == (18,)


@pytest.mark.parametrize(
    ("source", "target", "code", "complaint"),
    [
        ("nothing.db", "copy.db", 1, "there is no journal"),
        ("text", "copy.db", 1, "file is not a database"),
        ("journal.db", "not/there/copy.db", 1, "can't be written: No such file"),
        ("journal.db", "/dev/full", 3, "/dev/full: a device is there"),
        ("journal.db", "-", 2, "can't be written to standard output"),
    ],
)
def test_where_there_can_be_none_nothing_is_left(journal, tmp_path, source, target, code, complaint):
    (tmp_path / "text").write_text("no database" * 100)
    before = names(tmp_path)
    done = backup(tmp_path / source, target if target == "-" else tmp_path / target)
    assert done.returncode == code
    assert complaint in done.stderr
    assert names(tmp_path) == before


def test_a_disk_that_is_too_small_leaves_no_half_copy(journal, tmp_path):
    folder = tmp_path / "backup"
    folder.mkdir()
    done = fsm_miner(
        "backup", "--journal", journal, folder / "copy.db", prefix=("prlimit", "--fsize=8192", "--")
    )
    assert done.returncode == 1
    assert "can't be copied" in done.stderr or "can't be written" in done.stderr
    assert names(folder) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="it is root whom others could lead astray")
@pytest.mark.parametrize(
    ("uid", "mode", "taken"),
    [(65534, 0o755, False), (0, 0o777, False), (0, 0o1777, True), (0, 0o755, True)],
    ids=["somebody's", "open to all", "open to all, sticky", "root's"],
)
@pytest.mark.parametrize("deeper", [False, True])
def test_root_writes_only_where_nobody_else_can_exchange_the_file(
    journal, tmp_path, uid, mode, taken, deeper
):
    folder = tmp_path / "shared"
    target = folder / "below" / "copy.db" if deeper else folder / "copy.db"
    target.parent.mkdir(parents=True)
    (tmp_path / "link").symlink_to(target.parent)
    os.chown(folder, uid, uid)
    folder.chmod(mode)
    for way in (target, tmp_path / "link" / "another.db"):
        done = backup(journal, way)
        assert done.returncode == (0 if taken else 3), done.stderr
        assert taken or f"others than root may change {folder}" in done.stderr.replace("\n", " ")
    assert names(target.parent) == (["another.db", "copy.db"] if taken else [])
