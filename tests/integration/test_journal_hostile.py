"""A journal that somebody prepared for its reader: not the file it seems, or with a schema of his own."""

import asyncio
import gzip
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import pytest

from journal import JournalUnavailable, Upcasters
from journal.onlooker import Damaged, NoFile, connect_reader
from journal.opening import open_journal
from journal.port import Record
from journal.reader import open_reader
from journal.regular import open_regular
from journal.retention import ExportBroken, read_export
from tests.support.cli_journal import environment, fsm_miner, rot, seal, succeeded, write_journal

# A query that never ends by itself: each step gives the next row.
ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c"
DEEP = "[" * 200_000


@pytest.fixture
def journal(tmp_path):
    return write_journal(tmp_path / "journal.db", succeeded())


def fifo(path):
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def link_to_zero(path):
    path.unlink(missing_ok=True)
    path.symlink_to("/dev/zero")


def device(path):
    path.unlink(missing_ok=True)
    os.mknod(path, 0o20666, os.makedev(1, 5))


def folder(path):
    path.unlink(missing_ok=True)
    path.mkdir()


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
@pytest.mark.parametrize(
    ("put", "word"),
    [(fifo, "named pipe"), (link_to_zero, "symbolic link"), (device, "device"), (folder, "folder")],
)
def test_what_is_no_file_is_not_opened(journal, suffix, put, word):
    put(journal.with_name(journal.name + suffix))
    if put is device and os.geteuid() != 0:
        pytest.skip("only root makes devices")
    with pytest.raises((NoFile, JournalUnavailable), match=rf"{journal.name}{suffix}: is a {word}"):
        connect_reader(journal)


@pytest.mark.parametrize("words", [("verify",), ("check", "--journal")])
def test_commands_say_so_at_once(journal, words):
    fifo(journal.with_name("journal.db-shm"))
    asked = (*words, journal) if "check" in words else (*words, "--journal", journal)
    done = fsm_miner(*asked)
    assert (done.returncode, done.stdout) == (3, "")
    assert "journal.db-shm: is a named pipe, not a file" in done.stderr


def test_a_journal_behind_a_link_is_named_by_its_own_path(journal, tmp_path):
    # Its log lies beside the file itself, not beside the link: what is only there would be missed.
    link = tmp_path / "link.db"
    link.symlink_to(journal)
    done = fsm_miner("jobs", "--journal", link)
    assert done.returncode == 3
    assert "link.db: is a symbolic link: name the journal by its own path" in done.stderr


def test_a_daemon_sets_a_pipe_aside_and_starts_afresh(tmp_path):
    path = tmp_path / "journal.db"
    fifo(path)
    (tmp_path / "journal.db-wal").write_bytes(b"")  # so that it does not pass for an unfinished creation

    async def main():
        journal, report = open_journal(path, boot_id="boot-1", now_ns=lambda: 1)
        await journal.close()
        return report

    report = asyncio.run(main())
    assert report is None or "named pipe" in report.reason
    assert path.is_file()


def test_an_archive_that_is_a_pipe_is_told_and_not_waited_for(journal):
    seal(journal, ("j-1", 1))
    (export,) = (journal.parent / "journal-archive").iterdir()
    fifo(export)
    done = fsm_miner("verify", "--archives", "--journal", journal)
    assert done.returncode == 1
    assert "is a named pipe, not a file" in done.stdout


def test_an_export_nested_too_deeply_is_a_broken_one(tmp_path):
    path = tmp_path / "journal-1.jsonl.gz"
    with gzip.open(path, "wb") as file:
        file.write(DEEP.encode() + b"\n")
    with pytest.raises(ExportBroken, match="after line 1"):
        list(read_export(path))


def test_old_data_nested_too_deeply_is_no_json():
    record = Record("j-1", 1, 1, 1, "b", "Old", 1, "NEW", "NEW", DEEP, "0" * 64, "0" * 64)
    with pytest.raises(ValueError, match="too deeply"):
        Upcasters({("Old", 1): dict}).record(record)


def test_a_link_is_no_regular_file(tmp_path):
    link = tmp_path / "link"
    link.symlink_to("/etc/hostname")
    with pytest.raises(OSError, match="is a symbolic link"):
        open_regular(link)


def changed(path, *statements):
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        for statement in statements:
            conn.execute(statement)
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def test_a_view_in_place_of_the_records_is_not_evaluated(journal):
    columns = "1 AS n, 'j' AS job_id, 1 AS attempt, x AS seq, 1 AS at_ns"
    changed(
        journal,
        "ALTER TABLE records RENAME TO kept",
        f"CREATE VIEW records AS SELECT {columns} FROM ({ENDLESS})",
    )
    with (
        closing(connect_reader(journal)) as conn,
        pytest.raises(sqlite3.DatabaseError, match=r"prohibited|not authorized"),
    ):
        conn.execute("SELECT max(n) FROM records").fetchone()
    with pytest.raises(Damaged):
        open_reader(journal)
    done = fsm_miner("verify", "--journal", journal)
    assert (done.returncode, done.stderr) == (1, "")
    assert "the schema is not what its migration has left" in done.stdout


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM records",
        "CREATE TABLE more (x)",
        "ATTACH DATABASE ':memory:' AS other",
        "PRAGMA writable_schema = ON",
        "SELECT load_extension('x')",
        "SELECT randomblob(1000)",
        ENDLESS,
    ],
)
def test_a_reader_runs_nothing_but_the_journals_own_queries(journal, query):
    with closing(connect_reader(journal)) as conn, pytest.raises(sqlite3.DatabaseError):
        conn.execute(query)


def test_a_row_larger_than_any_record_is_not_read(journal):
    rot(journal, "UPDATE records SET data_json = printf('%.*c', 9 * 1024 * 1024, 'x') WHERE seq = 3")
    with pytest.raises(Damaged, match="too big"), open_reader(journal) as reader:
        list(reader.by_stream())
    assert "too big" in fsm_miner("verify", "--journal", journal).stdout


LONG = """
import sys
from pathlib import Path
from journal.onlooker import connect_reader
conn = connect_reader(Path(sys.argv[1]))
print("going", flush=True)
conn.execute("SELECT count(*) FROM records a, records b, records c, records d, records e, records f, records g,"
             " records h, records i, records j, records k WHERE a.n + b.n + c.n + d.n + k.n < 0").fetchone()
"""


def test_ctrl_c_ends_a_query_that_goes_on_and_on(journal):
    with subprocess.Popen(
        [sys.executable, "-c", LONG, str(journal)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(PYTHONPATH=":".join(path for path in sys.path if path)),
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"going\n"
            deadline_s = time.monotonic() + 30
            while process.poll() is None and time.monotonic() < deadline_s:
                process.send_signal(signal.SIGINT)
                time.sleep(0.02)
            assert process.returncode not in {None, 0}
        finally:
            process.kill()
