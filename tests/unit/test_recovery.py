"""What a start makes of the journal: every stream by itself, and a bad one costs that one only."""

import asyncio
from dataclasses import replace

import pytest

from fsm_miner.recovery import replay, replay_stream
from fsm_miner.sweeper import Finished
from journal.memory import MemoryJournal
from journal.port import Entry, StreamKey
from states import events as e
from states.evolve import IllegalTransition, fold
from states.job import NEW
from states.table import State
from tests.support.job_stages import STAGES, job_at, offered


class _Ticks:
    """A clock that goes one nanosecond further with every append."""

    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        self.now_ns += 1
        return self.now_ns


def _entry(event, name=None):
    # What a replay makes of a stream does not depend on the states that its records name.
    return Entry(name or type(event).__name__, 1, "IDLE", "IDLE", e.to_data(event))


def _stream(stage, job_id, attempt=1):
    """The events of a stage, as those of another job; one append each."""
    events = [
        replace(x, job_id=job_id, attempt=attempt) if isinstance(x, e.Offered) else x for x in STAGES[stage]
    ]
    return StreamKey(job_id, attempt), [_entry(event) for event in events]


def _journal(*streams):
    journal = MemoryJournal(boot_id="boot-1", now_ns=_Ticks())

    async def fill():
        for key, entries in streams:
            for seq, entry in enumerate(entries):
                await journal.append(key, seq, [entry])

    asyncio.run(fill())
    return journal


def test_an_empty_journal_has_no_jobs():
    found = replay([])
    assert (found.unfinished, found.finished, found.unreadable) == ([], [], [])


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage != "IDLE"])
def test_a_job_comes_back_as_it_was(stage):
    journal = _journal(_stream(stage, "j-1"))
    found = replay(journal.records())
    job = job_at(stage)
    if job.final:
        assert found.unfinished == []
        assert found.finished == [Finished(StreamKey("j-1", 1), job.state is State.DONE, job.seq)]
    else:
        assert found.finished == []
        (one,) = found.unfinished
        assert one.job == job
        records = journal.read(StreamKey("j-1", 1))
        # From the outcome on, what is delivered reads the same however often.
        told = [record for record in records if record.event == "OutcomeKnown"]
        assert one.head == (told or records[-1:])[0].hash
    assert found.unreadable == []


@pytest.mark.parametrize(
    ("stage", "since"),
    [
        ("ACKED", 2),
        ("PREP, launch intended, cancelled", 3),
        ("RUNNING, ended", 5),
        ("UPLOADING a success", 7),
    ],
)
def test_a_state_is_as_old_as_the_event_that_led_there(stage, since):
    (one,) = replay(_journal(_stream(stage, "j-1")).records()).unfinished
    assert one.since_ns == since


def test_attempts_are_streams_of_their_own():
    found = replay(_journal(_stream("DONE", "j-1", 1), _stream("RUNNING", "j-1", 2)).records())
    assert [x.key for x in found.finished] == [StreamKey("j-1", 1)]
    assert [(x.job.attempt, x.job.state) for x in found.unfinished] == [(2, State.RUNNING)]


def test_streams_may_lie_mixed_and_come_out_in_the_order_of_their_offers():
    late, early = offered(), replace(offered(), job_id="j-0", offered_ns=1)
    journal = _journal((StreamKey("j-1", 1), [_entry(late)]), (StreamKey("j-0", 1), [_entry(early)]))

    async def more():
        await journal.append(StreamKey("j-1", 1), 1, [_entry(e.Acked())])
        await journal.append(StreamKey("j-0", 1), 1, [_entry(e.Acked())])

    asyncio.run(more())
    records = sorted(journal.records(), key=lambda record: record.at_ns)
    assert [r.job_id for r in records] == ["j-1", "j-0", "j-1", "j-0"]
    assert [(x.job.job_id, x.job.state) for x in replay(records).unfinished] == [
        ("j-0", "ACKED"),
        ("j-1", "ACKED"),
    ]


BAD = {
    "illegal": (
        [_entry(e.Launched(1, None, 0, 0))],
        "IllegalTransition: j-bad/1: Launched is illegal in ACKED",
    ),
    "unknown event": ([_entry(e.Acked(), name="Exploded")], "KeyError: 'Exploded'"),
    "missing field": ([Entry("Superseded", 1, "PULLING", "FAILED", {})], "TypeError: "),
    "unknown field": ([Entry("PrepStarted", 1, "ACKED", "PREP", {"mood": "good"})], "TypeError: "),
    "unknown code": (
        [_entry(e.PrepStarted()), _entry(e.OutcomeKnown("E_MOOD", "bad"))],
        "ValueError: 'E_MOOD' is not a valid ErrorCode",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_stream_costs_that_stream_only(case):
    entries, sentence = BAD[case]
    key, good = _stream("ACKED", "j-bad")
    # What follows the bad record would be legal again; it must not begin the job anew.
    after = [_entry(replace(offered(), job_id="j-bad")), _entry(e.Acked())]
    journal = _journal(
        _stream("RUNNING", "j-1"),
        (key, [*good, *entries, *after]),
        _stream("DONE", "j-2"),
        _stream("ACKED", "j-3"),
    )
    found = replay(journal.records())
    assert [x.job.job_id for x in found.unfinished] == ["j-1", "j-3"]
    assert [x.key.job_id for x in found.finished] == ["j-2"]
    (told,) = found.unreadable
    assert told.startswith(f"j-bad/1: record {2 + len(entries)}: ")
    assert sentence in told


def test_a_finished_job_that_goes_on_is_unreadable():
    key, entries = _stream("DONE", "j-1")
    found = replay(_journal((key, [*entries, _entry(e.Acked())])).records())
    assert (found.unfinished, found.finished) == ([], [])
    assert "Acked is illegal in DONE" in found.unreadable[0]


def test_a_stream_is_told_step_by_step():
    key, entries = _stream("DONE", "j-1")
    journal = _journal((key, entries))
    steps = replay_stream(journal.read(key))
    assert [record.seq for record, _ in steps] == list(range(1, len(entries) + 1))
    assert [job for _, job in steps] == [fold(STAGES["DONE"][:n], NEW) for n in range(1, len(entries) + 1)]


def test_a_stream_that_the_table_does_not_follow_is_not_told():
    key, entries = _stream("ACKED", "j-1")
    journal = _journal((key, [*entries, _entry(e.Delivered(200))]))
    with pytest.raises(IllegalTransition, match="Delivered is illegal in ACKED"):
        replay_stream(journal.read(key))


@pytest.mark.parametrize(
    ("offer", "sentence"),
    [
        (offered(), "tells of another job"),
        (replace(offered(), job_id="j-odd", attempt=7), "tells of another job"),
        (replace(offered(), job_id="j-odd", offered_ns="soon"), "offered_ns is no whole number"),
    ],
)
def test_a_chain_that_holds_and_tells_nonsense_costs_its_stream_only(offer, sentence):
    found = replay(_journal(_stream("RUNNING", "j-1"), (StreamKey("j-odd", 1), [_entry(offer)])).records())
    assert [x.job.job_id for x in found.unfinished] == ["j-1"]
    (told,) = found.unreadable
    assert told.startswith("j-odd/1: record 1: ")
    assert sentence in told


def test_data_too_deep_to_be_read_costs_its_stream_only():
    records = list(_journal(_stream("RUNNING", "j-1"), _stream("ACKED", "j-2")).records())
    at = next(n for n, record in enumerate(records) if record.job_id == "j-2")
    records[at] = replace(records[at], data_json="[" * 100_000 + "]" * 100_000)
    found = replay(records)
    assert [x.job.job_id for x in found.unfinished] == ["j-1"]
    assert "nested too deeply" in found.unreadable[0]
