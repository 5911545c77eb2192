"""What a release has once written reads the same for ever: each stream folds to what its writer recorded."""

import asyncio
import json
import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from fsm_miner.reading import survey
from fsm_miner.recovery import replay, replay_stream
from fsm_miner.takeover import take_over
from fsm_miner.upcasters import UPCASTERS
from journal import StreamKey, open_reader
from journal.schema import NEWEST
from states.events import VERSIONS
from states.table import FINAL
from tests.golden.make import EXPECTED, STORIES
from tests.support.cli_journal import fsm_miner

HERE = Path(__file__).parent
GOLDEN = sorted(path.parent for path in HERE.glob("*/journal.db"))
BOOT = "00000000-0000-0000-0000-000000000000"


class _Log:
    """Hears nothing that should not be."""

    def error(self, event, **attrs):
        raise AssertionError((event, attrs))


@pytest.fixture(params=GOLDEN, ids=lambda folder: folder.name)
def golden(request, tmp_path):
    """A copy of a golden journal, and what its writer said of it."""
    path = tmp_path / "journal.db"
    shutil.copyfile(request.param / "journal.db", path)
    return path, json.loads((request.param / EXPECTED).read_text())["streams"]


def key_of(name):
    job_id, _, attempt = name.rpartition("/")
    return StreamKey(job_id, int(attempt))


def test_there_are_golden_journals_of_every_schema():
    found = set()
    for folder in GOLDEN:
        with open_reader(folder / "journal.db") as reader:
            found.add(reader.schema)
    assert found == set(range(1, NEWEST + 1))


def test_every_chain_holds_to_the_recorded_head(golden):
    path, expected = golden
    with open_reader(path) as reader:
        assert {str(key): head.hash for key, head in reader.verify().items()} == {
            name: stream["head"] for name, stream in expected.items()
        }


def test_every_stream_folds_as_it_was_recorded(golden):
    path, expected = golden
    with open_reader(path, UPCASTERS) as reader:
        assert {str(key) for key in reader.streams()} == expected.keys()
        for name, stream in expected.items():
            steps = replay_stream(reader.read(key_of(name)))
            assert [[r.event, r.source, str(job.state)] for r, job in steps] == [
                [event, source, dest] for event, _, source, dest in stream["steps"]
            ]
            job = steps[-1][1]
            if stream["outcome"] is None:
                assert not job.outcome_known
            else:
                code, message, artifacts = stream["outcome"]
                failure = job.failure
                assert (None if failure is None else str(failure.code)) == code
                assert failure is None or failure.message == message
                assert [one["path"] for one in job.artifacts] == artifacts


def test_the_reading_check_finds_nothing(golden):
    path, expected = golden
    with open_reader(path, UPCASTERS) as reader:
        found = survey(reader.by_stream())
        assert replay(reader.records()).unfinished == found.recovered.unfinished
    assert (found.differences, found.broken, found.streams) == ([], [], len(expected))
    over = {name for name, stream in expected.items() if stream["steps"][-1][3] in FINAL}
    assert {str(one.key) for one in found.recovered.finished} == over
    assert {
        f"{one.job.job_id}/{one.job.attempt}" for one in found.recovered.unfinished
    } == expected.keys() - over


def test_a_daemon_takes_it_over_and_the_next_one_starts_on_what_it_needs(golden):
    path, expected = golden
    over = {
        (name, stream["ended_ns"]) for name, stream in expected.items() if stream["steps"][-1][3] in FINAL
    }
    for whole in (True, False):
        taken = take_over(path, boot_id=BOOT, now_ns=iter(range(10)).__next__, log=_Log())
        assert taken.whole is whole
        assert {(str(one.key), one.at_ns) for one in taken.recovered.finished} == over
        assert len(taken.recovered.unfinished) == len(expected) - len(over)
        asyncio.run(taken.journal.close())
    with open_reader(path) as reader:
        assert reader.schema == NEWEST
        assert {str(key): head.hash for key, head in reader.verify().items()} == {
            name: stream["head"] for name, stream in expected.items()
        }


def test_the_commands_read_it(golden):
    path, expected = golden
    before = path.read_bytes()
    name = "g-reattached/1"
    for words in (("verify",), ("check",), ("replay", name), ("jobs",)):
        where = ("--journal", path)
        done = fsm_miner(*words, *where)
        assert done.returncode == 0, done.stderr
        if words[0] == "replay":
            assert all(event in done.stdout for event, *_ in expected[name]["steps"])
    assert path.read_bytes() == before
    assert [one.name for one in path.parent.iterdir()] == ["journal.db"]


def test_what_happened_is_worth_keeping():
    """Every event that there is stands in one of them, in its newest version; of a new one, make a new journal."""
    seen = set()
    for folder in GOLDEN:
        expected = json.loads((folder / EXPECTED).read_text())["streams"]
        seen |= {(event, version) for stream in expected.values() for event, version, *_ in stream["steps"]}
        assert len(expected) >= len(STORIES)
    missing = set(VERSIONS.items()) - seen
    assert missing <= {("AbandonRequested", 1)}, missing


def test_nothing_private_is_in_it():
    for folder in GOLDEN:
        with closing(sqlite3.connect(f"file:{folder / 'journal.db'}?immutable=1", uri=True)) as conn:
            text = "\n".join(data for (data,) in conn.execute("SELECT data_json FROM records"))
        assert "bootstrap-token" not in text
        assert set(re.findall(r'"(/[a-z]+/[a-z-]+)/', text)) <= {"/tmp/golden-node"}
