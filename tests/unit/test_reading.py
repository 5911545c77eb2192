"""The reading check: what a version makes of old facts, against what their writer recorded."""

import asyncio
from dataclasses import replace

import pytest

from fsm_miner.reading import fingerprint, survey
from fsm_miner.recovery import replay
from fsm_miner.upcasters import UPCASTERS
from journal.memory import MemoryJournal
from journal.port import Entry, StreamKey
from journal.upcast import Upcasters
from states.events import EVENTS, VERSIONS
from tests.support.cli_journal import alive, denied, entries, succeeded, ticking


def stored(*streams, table=None):
    """Records, stream by stream, of (key, entries)."""
    journal = MemoryJournal(boot_id="boot-1", now_ns=ticking(1), upcasters=table)

    async def fill():
        for key, facts in streams:
            for seq, fact in enumerate(facts):
                await journal.append(key, seq, [fact])

    asyncio.run(fill())
    return [record for key, _ in streams for record in journal.read(key)]


def life(events):
    return StreamKey(events[0].job_id, events[0].attempt), entries(events)


def test_what_this_version_wrote_it_reads_as_it_was_written():
    records = stored(*map(life, (succeeded(), denied(), alive())))
    found = survey(records)
    assert (found.differences, found.broken, found.differing) == ([], [], 0)
    assert (found.streams, found.records) == (3, len(records))
    assert found.recovered == replay(records)


def changed_at(seq, **fields):
    key, facts = life(succeeded())
    return key, [replace(fact, **fields) if n == seq else fact for n, fact in enumerate(facts, 1)]


@pytest.mark.parametrize(
    ("seq", "fields", "words"),
    [
        (5, {"dest": "PREP"}, "was recorded as PREP → PREP, and this version reads it as PREP → RUNNING"),
        (3, {"source": "PULLING"}, "was recorded as PULLING → PREP"),
        (2, {"event": "Reattached", "data": {"run": 1, "daemon_pid": 1}}, "Reattached is illegal in PULLING"),
        (2, {"event": "Blessed"}, "KeyError"),
        (2, {"data": {"lease": 30}}, "TypeError"),
        (7, {"data": {"code": "E_NEW", "message": "", "artifacts": []}}, "E_NEW"),
    ],
)
def test_a_difference_is_named_where_it_begins_and_costs_its_stream_only(seq, fields, words):
    found = survey(stored(life(denied()), changed_at(seq, **fields), life(alive())))
    (difference,) = found.differences
    assert (difference.key, difference.seq) == (StreamKey("j-1", 1), seq)
    assert words in difference.reason
    assert str(difference).startswith(f"j-1/1: record {seq}: ")
    assert [one.key.job_id for one in found.recovered.finished] == ["j-2"]
    assert [one.job.job_id for one in found.recovered.unfinished] == ["j-3"]
    assert found.broken == []


def test_a_fact_of_a_later_version_is_a_difference():
    later = Upcasters({("Acked", 1): lambda data: data})
    records = stored(changed_at(2, version=2), table=later)
    assert "has version 2, this program knows 1" in survey(records).differences[0].reason


def test_a_broken_chain_is_damage_and_no_other_reading():
    records = [replace(one, dest="PREP") if one.seq == 5 else one for one in stored(life(succeeded()))]
    found = survey(records)
    assert found.differences == []
    assert [(one.key, one.seq) for one in found.broken] == [(StreamKey("j-1", 1), 5)]


def test_an_upcaster_that_agrees_and_one_that_does_not():
    records = stored(life(succeeded()))
    same = Upcasters({("Acked", 1): lambda data: data})
    assert survey(records, table=same).differences == []
    renamed = Upcasters({("Acked", 1): lambda data: {"lease": data["lease_s"]}})
    assert "lease" in survey(records, table=renamed).differences[0].reason
    broken = Upcasters({("Acked", 1): lambda data: {"lease_s": data["until"]}})
    assert "KeyError" in survey(records, table=broken).differences[0].reason


def test_many_differences_are_counted_and_a_thousand_named():
    bad = [Entry("Blessed", 1, "IDLE", "IDLE", {})]
    found = survey(stored(*[(StreamKey(f"j-{n}", 1), bad) for n in range(1100)]))
    assert (found.differing, len(found.differences)) == (1100, 1000)


def test_progress_is_told():
    heard = []
    records = stored(*[(StreamKey(f"j-{n}", 1), life(alive(f"j-{n}"))[1]) for n in range(200)])
    survey(records, tick=heard.append)
    assert heard == [512, 1000]


def test_what_was_found_before_the_reading_broke_off_is_kept():
    records = stored(life(denied()), changed_at(5, dest="PREP"), life(alive()))

    def breaks_off():
        yield from records[:-2]
        raise ConnectionError

    found = survey([])
    with pytest.raises(ConnectionError):
        survey(breaks_off(), found)
    assert [one.key.job_id for one in found.differences] == ["j-1"]


def test_the_fingerprint_is_one():
    assert fingerprint() == fingerprint()
    assert len(bytes.fromhex(fingerprint())) == 32


def test_what_is_written_is_the_newest_version_that_is_read():
    assert {name: UPCASTERS.newest(name) for name in EVENTS} == dict(VERSIONS)
