"""`fsm-miner check --journal`, as a process: it says how this version reads a journal, and changes nothing."""

import asyncio
import json
import sqlite3
from contextlib import closing
from itertools import count

import pytest

from fsm_miner import __version__
from journal import Entry, SqliteJournal, StreamKey
from journal.creation import create
from tests.support.cli_journal import alive, denied, fsm_miner, rot, succeeded, without_rights, write_journal


@pytest.fixture
def journal(tmp_path):
    return write_journal(tmp_path / "journal.db", succeeded(), denied(), alive())


def check(code, *words, prefix=()):
    done = fsm_miner("check", *words, prefix=prefix)
    assert done.returncode == code, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done


def data(path, code):
    return json.loads(check(code, "--journal", path, "--json").stdout)


def add(path, job_id, *entries):
    async def main():
        opened = SqliteJournal(path, boot_id="b", now_ns=count(10**18).__next__)
        for seq, entry in enumerate(entries):
            await opened.append(StreamKey(job_id, 1), seq, [entry])
        await opened.close()

    asyncio.run(main())


def test_what_reads_as_it_was_written_is_ok(journal):
    before = journal.read_bytes()
    text = check(0, "--journal", journal).stdout
    assert f"ok: {journal}: 3 streams, 18 records, schema 2" in text
    assert f"Version {__version__} reads all of it as it was written." in text
    assert data(journal, 0) == {
        "ok": True,
        "journal": str(journal),
        "schema": 2,
        "last_version": None,
        "version": __version__,
        "version_schema": 2,
        "same_reading": False,
        "streams": 3,
        "records": 18,
        "differing": 0,
        "differs": [],
        "damage": [],
    }
    assert journal.read_bytes() == before
    assert [one.name for one in journal.parent.iterdir()] == ["journal.db"]


def test_what_reads_otherwise_is_named_stream_by_stream(journal):
    # As another version's daemon left it, which had another idea of things.
    create(journal, 1, notes={"reading": "another", "version": "9.9.9", "unreadable": '[["j-known", 1]]'})
    for job_id in ("j-odd", "j-known"):
        add(journal, job_id, Entry("Blessed", 1, "IDLE", "ACKED", {}))
    text = check(5, "--journal", journal).stdout
    assert "NOT ok" in text
    assert "last taken over by version 9.9.9" in text
    assert "differs: j-odd/1: record 1: Blessed: KeyError" in text
    assert "unreadable: j-known/1: record 1: Blessed" in text
    assert "exit code 5" in text
    found = data(journal, 5)
    assert [(one["job_id"], one["refused"]) for one in found["differs"]] == [
        ("j-known", False),
        ("j-odd", True),
    ]


def test_damage_is_no_other_reading(journal):
    rot(journal, "UPDATE records SET at_ns = 1 WHERE job_id = 'j-1' AND seq = 3")
    text = check(1, "--journal", journal).stdout
    assert "damaged: j-1/1: record 3" in text
    assert f"no reason against version {__version__}" in text
    assert data(journal, 1)["differs"] == []


def test_tables_that_somebody_has_changed_are_not_read_and_it_says_who_reads_them(journal):
    # As one does who wants to change a record: the trigger that forbids it has to go first.
    with closing(sqlite3.connect(journal)) as conn, conn:
        conn.execute("DROP TRIGGER records_no_update")
        conn.execute("UPDATE records SET at_ns = 1 WHERE job_id = 'j-1' AND seq = 3")
    text = check(1, "--journal", journal).stdout
    assert f"NOT ok: {journal}: not read, because its tables are not as they were made" in text
    assert f"`fsm-miner verify --journal {journal}` reads it all the same" in text
    assert "0 streams" not in text
    found = data(journal, 1)
    assert (found["ok"], found["schema"], found["streams"], found["records"]) == (False, None, None, None)
    assert "record 3" in fsm_miner("verify", "--journal", journal).stdout


def test_a_file_that_is_no_journal(tmp_path):
    (tmp_path / "note.db").write_text("a note somebody left here\n" * 400)
    assert "not a database" in check(1, "--journal", tmp_path / "note.db").stdout
    assert "there is no journal" in check(1, "--journal", tmp_path / "none.db").stderr


def test_a_journal_of_somebody_else_asks_for_sudo(journal):
    journal.chmod(0)
    assert "sudo" in check(3, "--journal", journal, prefix=without_rights()).stderr


def test_a_file_without_the_option_is_wrong_usage(journal):
    assert "--journal" in check(2, journal).stderr


def test_the_configured_one_is_the_default(tmp_path, journal):
    config = tmp_path / "config.yaml"
    config.write_text(
        "node_id: n\ncoordinator: {base_url: 'http://127.0.0.1:1/api/v1', auth_token: 'env:MINER_AUTH'}\n"
        f"journal: {{path: {journal}}}\n"
    )
    assert f"ok: {journal}" in check(0, "--journal", "--config", config).stdout
