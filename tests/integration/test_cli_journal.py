"""`jobs`, `replay` and `verify` as processes of their own, on real databases: sound, rotten, open elsewhere, locked."""

import asyncio
import gzip
import json
import sqlite3
from contextlib import closing

import pytest

from journal import SqliteJournal, StreamKey
from tests.support.cli_journal import (
    alive,
    denied,
    entries,
    fsm_miner,
    rot,
    seal,
    succeeded,
    ticking,
    without_rights,
    write_journal,
)


@pytest.fixture
def journal(tmp_path):
    return write_journal(tmp_path / "journal.db", succeeded(), denied(), alive())


def ran(done, code):
    assert done.returncode == code, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done


def jobs(path, *words, code=0):
    return ran(fsm_miner("jobs", "--journal", path, *words), code)


def replay(path, *words, code=0):
    return ran(fsm_miner("replay", "--journal", path, *words), code)


def verify(path, *words, code=0):
    return ran(fsm_miner("verify", "--journal", path, *words), code)


def test_jobs_lists_the_newest_first(journal):
    lines = [line.split() for line in jobs(journal).stdout.splitlines()]
    assert lines[0] == ["JOB", "ATTEMPT", "STATE", "RUNS", "CODE", "AGE", "TOOK", "FILES"]
    assert [line[:5] for line in lines[1:]] == [
        ["j-3", "1", "RUNNING", "1", "-"],
        ["j-2", "1", "FAILED", "0", "E_DENY"],
        ["j-1", "1", "DONE", "1", "-"],
    ]
    assert lines[3][6:] == ["2.000s", "1"]


def test_jobs_can_be_chosen(journal):
    def chosen(*words):
        return [job["job_id"] for job in json.loads(jobs(journal, "--json", *words).stdout)]

    assert chosen() == ["j-3", "j-2", "j-1"]
    assert chosen("--state", "failed") == ["j-2"]
    assert chosen("--state", "FAILED", "--state", "DONE", "--limit", "1") == ["j-2"]
    assert chosen("--limit", "1", "--all") == ["j-3", "j-2", "j-1"]
    assert "1 of 3: --all shows the rest" in jobs(journal, "--limit", "1").stdout
    assert "no jobs in this state" in jobs(journal, "--state", "PREP").stdout


def test_jobs_as_data(journal):
    (job,) = json.loads(jobs(journal, "--json", "--state", "FAILED").stdout)
    assert job["message"] == 'command: "rm" is not allowed on this node'
    assert (job["code"], job["records"], job["took_s"], job["trouble"]) == ("E_DENY", 5, None, [])


def test_replay_tells_the_life_of_a_job(journal):
    text = replay(journal, "j-1").stdout
    assert [line.split()[0] for line in text.splitlines()[3:11]] == list("12345678")
    assert "success; 1 artifact: output.txt (12 B)" in text
    assert "state     DONE   due: nothing" in text
    assert "chain     holds: 8 records" in text


def test_replay_shows_the_job_as_it_was(journal):
    text = replay(journal, "j-1/1", "--at", "4").stdout
    assert "after record 4: LaunchIntended" in text
    assert "due       Launch (run 1, only_look False)" in text
    assert "artifacts  " not in text
    data = json.loads(replay(journal, "j-1", "--at", "5", "--json").stdout)
    assert data["job"]["state"] == "RUNNING"
    assert data["due"] == {"instruction": "Watch", "run": 1}


def test_replay_as_data(journal):
    data = json.loads(replay(journal, "j-3", "--json").stdout)
    assert [record["event"] for record in data["records"]][-1] == "Launched"
    assert data["chain"] == {"holds": True, "first_bad_seq": None, "reason": None}
    assert (data["job"]["state"], data["due"]["instruction"], data["trouble"]) == ("RUNNING", "Watch", [])


def test_replay_shows_the_newest_attempt_and_knows_the_others(tmp_path):
    path = write_journal(tmp_path / "j.db", denied("j-1", 1), succeeded("j-1", 2))
    text = replay(path, "j-1").stdout
    assert text.startswith("j-1/2 ")
    assert "other attempts: 1 (--attempt N shows them)" in text
    assert "not a whole number from 1 on" in replay(path, "j-1", "--attempt", "0", code=2).stderr
    assert replay(path, "j-1", "--attempt", "1").stdout.startswith("j-1/1 ")
    assert "it has 1, 2" in replay(path, "j-1/9", code=1).stderr


def test_a_job_that_is_not_there_is_a_no_with_names_near_it(journal):
    done = replay(journal, "j1", code=1)
    assert done.stdout == ""
    assert done.stderr.startswith("fsm-miner: there is no job j1 ")
    assert "near it: j-" in done.stderr


def test_a_record_that_is_not_there_is_wrong_usage(journal):
    assert "j-1/1 has no record 9; its last is 8" in replay(journal, "j-1", "--at", "9", code=2).stderr


CHANGED = "UPDATE records SET data_json = replace(data_json, 'echo', 'evil') WHERE job_id = 'j-1' AND seq = 4"
NO_TEXT = "UPDATE records SET data_json = CAST(X'7BFF7D' AS TEXT) WHERE job_id = 'j-1' AND seq = 4"
GONE = "DELETE FROM records WHERE job_id = 'j-1' AND seq = 4"


@pytest.mark.parametrize(
    ("damage", "first_bad", "rows"),
    [(CHANGED, 4, 8), (NO_TEXT, 4, 8), (GONE, 5, 7)],
    ids=["byte", "no text", "gone"],
)
def test_a_changed_byte_is_found_and_the_rest_is_shown(journal, damage, first_bad, rows):
    rot(journal, damage)
    done = verify(journal, code=1)
    assert f"first bad record: j-1/1: record {first_bad}: " in done.stdout
    assert verify(journal, "j-2").returncode == 0
    data = json.loads(verify(journal, "j-1", "--json", code=1).stdout)
    assert [(bad["job_id"], bad["seq"]) for bad in data["bad"]] == [("j-1", first_bad)]
    assert data["ok"] is False

    text = replay(journal, "j-1", code=1).stdout
    shown = [line for line in text.splitlines() if line.split()[:1] and line.split()[0].isdigit()]
    assert len(shown) == rows
    assert f"does NOT hold: j-1/1: record {first_bad}: " in text
    data = json.loads(replay(journal, "j-1", "--json", code=1).stdout)
    assert data["chain"]["first_bad_seq"] == first_bad
    assert [record["holds"] for record in data["records"]] == [
        record["seq"] < 4 for record in data["records"]
    ]

    done = jobs(journal, code=1)
    assert "the journal is damaged: j-1/1" in done.stderr
    assert [line.split()[4] for line in done.stdout.splitlines()[1:]] == ["-", "E_DENY", "damaged"]


def test_a_sound_journal_verifies(journal):
    done = verify(journal)
    assert "3 streams, 18 records" in done.stdout
    data = json.loads(verify(journal, "--json").stdout)
    assert (data["ok"], data["streams"], data["records"], data["bad"]) == (True, 3, 18, [])
    assert data["heads"]["j-1/1"]["seq"] == 8
    assert data["heads"]["j-1/1"]["hash"] in replay(journal, "j-1").stdout


def test_a_schema_that_was_changed_is_trouble_and_can_be_replayed(journal):
    with closing(sqlite3.connect(journal)) as conn:
        conn.execute("DROP TRIGGER records_no_update")
        conn.commit()
    assert "the schema is not what its migration has left" in verify(journal, code=1).stdout
    text = replay(journal, "j-1", code=1).stdout
    assert "chain     holds" in text
    assert "trouble" in text


def test_pages_of_rubbish_are_a_sentence(journal):
    raw = bytearray(journal.read_bytes())
    raw[4096:] = b"\xaa" * (len(raw) - 4096)
    journal.write_bytes(raw)
    assert "malformed" in verify(journal, code=1).stdout
    for words in (("jobs",), ("replay", "j-1")):
        done = ran(fsm_miner(*words, "--journal", journal), 1)
        assert "malformed" in done.stderr


@pytest.mark.parametrize("content", [b"", b"this is no database" * 100])
def test_another_file_is_no_journal(tmp_path, content):
    path = tmp_path / "journal.db"
    path.write_bytes(content)
    for words in (("jobs",), ("replay", "j-1"), ("verify",)):
        done = ran(fsm_miner(*words, "--journal", path), 1)
        assert str(path) in done.stderr + done.stdout


def test_no_journal_is_a_no(tmp_path):
    for words in (("jobs",), ("replay", "j-1"), ("verify",)):
        done = ran(fsm_miner(*words, "--journal", tmp_path / "none.db"), 1)
        assert "there is no journal" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_later_releases_journal_is_what_this_program_can_not_read(journal):
    with closing(sqlite3.connect(journal)) as conn:
        sha = conn.execute("SELECT schema_sha256 FROM migrations ORDER BY version DESC").fetchone()
        conn.execute("INSERT INTO migrations VALUES (99, 1, ?)", sha)
        conn.execute("PRAGMA user_version = 99")
        conn.commit()
    for words in (("jobs",), ("replay", "j-1"), ("verify",)):
        assert "install the release" in ran(fsm_miner(*words, "--journal", journal), 3).stderr


def test_a_journal_of_somebody_else_asks_for_sudo(journal):
    journal.chmod(0)
    for words in (("jobs",), ("replay", "j-1"), ("verify",)):
        done = ran(fsm_miner(*words, "--journal", journal, prefix=without_rights()), 3)
        assert "permission denied" in done.stderr
        assert "sudo" in done.stderr


def test_a_journal_that_is_being_written_is_read_as_it_is_now(tmp_path):
    path = tmp_path / "journal.db"

    async def main():
        journal = SqliteJournal(path, boot_id="boot-1", now_ns=ticking())
        life = entries(succeeded())
        try:
            for seq, entry in enumerate(life):
                await journal.append(StreamKey("j-1", 1), seq, [entry])
                if seq == 4:
                    assert "RUNNING" in (await asyncio.to_thread(jobs, path)).stdout
                    assert "Watch (run 1)" in (await asyncio.to_thread(replay, path, "j-1")).stdout
                    assert "1 stream, 5 records" in (await asyncio.to_thread(verify, path)).stdout
            assert "DONE" in (await asyncio.to_thread(jobs, path)).stdout
            assert journal.verify()
        finally:
            await journal.close()

    asyncio.run(main())


def test_a_job_in_the_archive_is_found_there(journal):
    seal(journal, ("j-1", 1))
    (archive,) = (journal.parent / "journal-archive").iterdir()
    text = replay(journal, "j-1").stdout
    assert text.startswith(f"j-1/1  from {archive}")
    assert "chain     holds: 8 records" in text
    assert "1 stream, 8 records" in verify(journal, "j-1").stdout
    done = verify(journal, "--archives")
    assert "2 streams, 10 records" in done.stdout
    assert "archive: 1 file, 1 stream, 8 records" in done.stdout
    assert "near it: j-1" in replay(journal, "j-11", code=1).stderr


def test_a_changed_archive_is_found(journal):
    seal(journal, ("j-1", 1))
    (archive,) = (journal.parent / "journal-archive").iterdir()
    lines = gzip.decompress(archive.read_bytes())
    archive.write_bytes(gzip.compress(lines.replace(b"/usr/bin/echo", b"/usr/bin/evil")))
    assert "j-1/1: record 4" in verify(journal, "--archives", code=1).stdout
    assert verify(journal).returncode == 0
    text = replay(journal, "j-1", code=1).stdout
    assert "3 records" in text
    assert "j-1/1: record 4" in text
    archive.unlink()
    assert "has moved 1 streams into it" in verify(journal, "--archives", code=1).stdout


def test_words_of_a_job_can_not_steer_the_terminal(tmp_path):
    life = denied("j-1")
    life[3] = type(life[3])("E_DENY", "\x1b]0;owned\x07[red]\u202e")
    path = write_journal(tmp_path / "j.db", life)
    text = replay(path, "j-1").stdout
    assert "\x1b" not in text
    assert "E_DENY: \\x1b]0;owned\\x07[red]\\u202e" in text


def test_verify_takes_a_job_or_the_archive(journal):
    assert "--archives checks everything" in verify(journal, "j-1", "--archives", code=2).stderr


def test_the_configuration_says_where_the_journal_is(journal, tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(
        "coordinator: {base_url: 'https://c.example', auth_token: 'env:X'}\nnode_id: n\njournal: {path: journal.db}\n"
    )
    for done in (fsm_miner("jobs", "--config", config), fsm_miner("jobs", FSM_MINER_CONFIG=str(config))):
        assert "j-3" in ran(done, 0).stdout
    config.write_text("nonsense: 1\n")
    for words in (("jobs",), ("replay", "j-1"), ("verify",)):
        done = ran(fsm_miner(*words, "--config", config), 2)
        assert f'{config}:1: unknown key "nonsense"' in done.stderr
