import asyncio

import pytest

from journal import Entry, FailingJournal, FailsOnNth, JournalUnavailable, MemoryJournal, StreamKey

KEY = StreamKey("j", 1)
FACT = [Entry("E", 1, "A", "B", {})]


def memory():
    return MemoryJournal(boot_id="b", now_ns=lambda: 1)


def test_every_append_fails_and_reading_works():
    async def main():
        under = memory()
        await under.append(KEY, 0, FACT)
        journal = FailingJournal(under)
        with pytest.raises(JournalUnavailable):
            await journal.append(KEY, 1, FACT)
        await journal.close()
        return (
            len(journal.read(KEY)),
            journal.streams(),
            FailingJournal().read(KEY),
            FailingJournal().streams(),
        )

    assert asyncio.run(main()) == (1, [KEY], [], [])


@pytest.mark.parametrize(("kept", "left"), [(False, 1), (True, 2)])
def test_the_nth_append_fails(kept, left):
    async def main():
        journal = FailsOnNth(memory(), 2, kept=kept)
        await journal.append(KEY, 0, FACT)
        with pytest.raises(JournalUnavailable):
            await journal.append(KEY, 1, FACT)
        assert len(journal.read(KEY)) == left
        await journal.append(KEY, left, FACT)
        await journal.close()
        return journal.streams()

    assert asyncio.run(main()) == [KEY]
