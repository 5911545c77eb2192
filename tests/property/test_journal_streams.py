"""What holds for every order of appends: streams stay dense and ordered, and a replay is what was appended."""

import asyncio
import tempfile
from itertools import count
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from journal import AppendConflict, Entry, MemoryJournal, SqliteJournal, StreamKey, open_reader, verify_chain

# Each task appends so many entries at a time to so many streams, one after the other.
PLANS = st.lists(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 3)), max_size=6), min_size=1, max_size=8
)


def entries(task, number):
    return [Entry("E", 1, "A", "B", {"task": task, "i": i}) for i in range(number)]


async def storm(journal, plan):
    """Run all tasks at once; each retries after a conflict. Returns what each append was told."""
    told = []

    async def work(task, steps):
        for stream, number in steps:
            key = StreamKey(f"j-{stream}", 1)
            while True:
                try:
                    told.append(await journal.append(key, len(journal.read(key)), entries(task, number)))
                    break
                except AppendConflict:
                    continue

    await asyncio.gather(*(work(task, steps) for task, steps in enumerate(plan)))
    return told


@settings(deadline=None, max_examples=40)
@given(PLANS)
def test_concurrent_tasks_keep_each_stream_dense_and_ordered(plan):
    async def main(path):
        journal = SqliteJournal(path, boot_id="b", now_ns=count(1).__next__)
        told = await storm(journal, plan)
        streams = {key: journal.read(key) for key in journal.streams()}
        replayed = list(journal.records())
        await journal.close()
        return told, streams, replayed

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "j.db"
        told, streams, replayed = asyncio.run(main(path))
        with open_reader(path) as reader:
            assert list(reader.records()) == replayed
    for records in streams.values():
        assert [r.seq for r in records] == list(range(1, len(records) + 1))
    assert sorted(replayed, key=lambda r: r.hash) == sorted(
        (r for records in told for r in records), key=lambda r: r.hash
    )
    assert verify_chain(replayed).keys() == streams.keys()


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(1, 3)), max_size=20))
def test_the_twins_agree_on_every_append_and_every_conflict(steps):
    async def drive(journal):
        answers = []
        for stream, believed, number in steps:
            try:
                answers.append(await journal.append(StreamKey("j", stream), believed, entries(0, number)))
            except AppendConflict:
                answers.append("conflict")
        result = answers, journal.streams(), [journal.read(key) for key in journal.streams()]
        await journal.close()
        return result

    with tempfile.TemporaryDirectory() as folder:
        # A clock that ticks only for what is appended: a refused append must not shift the twins apart.
        durable = asyncio.run(drive(SqliteJournal(Path(folder) / "j.db", boot_id="b", now_ns=lambda: 7)))
    memory = asyncio.run(drive(MemoryJournal(boot_id="b", now_ns=lambda: 7)))
    assert durable == memory
