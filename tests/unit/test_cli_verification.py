"""Checking chains on and on after the first that is broken, and the archive against the journal's notes."""

import gzip

import pytest

from fsm_miner.cli.archive import archive_files, find_in_archive
from fsm_miner.cli.cases import nearest, parse_job
from fsm_miner.cli.outcome import ExitCode, Refused
from fsm_miner.cli.reading import JournalFile, Sealed
from fsm_miner.cli.verification import Findings, check_archive, check_records
from journal import StreamKey
from tests.support.cli_journal import changed, denied, records, seal, succeeded, write_journal

ONE, TWO = StreamKey("j-1", 1), StreamKey("j-2", 1)


def test_the_first_bad_record_of_each_stream_is_named_and_the_rest_is_read():
    first, second = records(succeeded()), records(denied(), TWO)
    findings = Findings()
    ticks = []
    check_records(
        [*changed(first, 3, event="Acked"), *changed(second, 2, dest="DONE")], findings, ticks.append
    )
    assert [(bad.key, bad.seq) for bad in findings.bad] == [(ONE, 3), (TWO, 2)]
    assert (findings.records, findings.heads[ONE].seq, findings.heads[TWO].seq) == (13, 2, 1)
    assert findings.newest.seq == 5
    assert not findings.ok


def test_sound_records_have_heads():
    made = records(succeeded())
    findings = Findings()
    check_records(made, findings)
    assert findings.ok
    assert findings.heads == {ONE: (8, made[-1].hash)}


@pytest.fixture
def archived(tmp_path):
    path = write_journal(tmp_path / "journal.db", succeeded(), denied())
    seal(path, ONE)
    (file,) = archive_files(tmp_path / "journal-archive")
    with JournalFile(path) as journal:
        return file, journal.sealed()


def test_an_archive_is_what_the_journal_noted(archived):
    path, sealed = archived
    findings = Findings()
    check_archive(path, sealed, findings)
    assert findings.ok
    assert (findings.files, findings.archived_streams, findings.archived_records) == (1, 1, 8)


def test_an_archive_that_lost_a_record_does_not_end_where_it_should(archived):
    path, sealed = archived
    lines = gzip.decompress(path.read_bytes()).splitlines(keepends=True)
    path.write_bytes(gzip.compress(b"".join(lines[:-1])))
    findings = Findings()
    check_archive(path, [*sealed, Sealed(TWO, 5, "cd" * 32, path.name)], findings)
    assert len(findings.trouble) == 2
    assert "j-1/1 ends there at record 7" in findings.trouble[0]
    assert "j-2/1 is not in it" in findings.trouble[1]


@pytest.mark.parametrize("damage", [lambda raw: raw[:-20], lambda raw: b"no gzip", lambda raw: b""])
def test_a_damaged_archive_is_trouble_that_names_it(archived, damage):
    path, sealed = archived
    path.write_bytes(damage(path.read_bytes()))
    findings = Findings()
    check_archive(path, sealed, findings)
    assert path.name in findings.trouble[0]


def test_an_archive_that_can_not_be_opened_is_trouble(archived):
    path, sealed = archived
    path.unlink()
    path.mkdir()
    findings = Findings()
    check_archive(path, sealed, findings)
    assert str(path) in findings.trouble[0]


def test_a_job_is_found_in_the_archive_with_or_without_the_journals_note(archived):
    path, _ = archived
    for exports in ([path.name], [], ["gone.jsonl.gz"], ["../../etc/passwd"]):
        key, found, made = find_in_archive(path.parent, "j-1", None, exports)
        assert (key, found, len(list(made))) == (ONE, path, 8)
    assert find_in_archive(path.parent, "j-1", 2, []) is None
    assert find_in_archive(path.parent, "j-2", None, []) is None
    assert find_in_archive(path.parent / "none", "j-1", None, []) is None


@pytest.mark.parametrize(
    ("text", "attempt", "parsed"),
    [
        ("j-1", None, ("j-1", None)),
        ("j-1", 3, ("j-1", 3)),
        ("j-1/2", None, ("j-1", 2)),
        ("j-1/2", 2, ("j-1", 2)),
        ("odd/name", None, ("odd/name", None)),
        ("odd/²", None, ("odd/²", None)),
    ],
)
def test_a_job_and_its_attempt(text, attempt, parsed):
    assert parse_job(text, attempt) == parsed


def test_two_different_attempts_are_a_usage_error():
    with pytest.raises(Refused) as refused:
        parse_job("j-1/2", 3)
    assert refused.value.code is ExitCode.USAGE


def test_names_that_somebody_may_have_meant():
    names = ["j-20260101-001", "j-20260101-002", "other", "k"]
    assert nearest("j-2026101-001", names)[0] == "j-20260101-001"
    assert nearest("0101", names) == ["j-20260101-001", "j-20260101-002"]
    assert nearest("nothing", ["other"]) == []
