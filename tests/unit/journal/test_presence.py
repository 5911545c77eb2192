"""A database whose name is taken away while it is open: nothing counts as durable until it has one again."""

import asyncio
import shutil
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from journal import Entry, JournalUnavailable, SqliteJournal, StreamKey, open_journal, open_reader

KEY = StreamKey("j-1", 1)
FACT = [Entry("E", 1, "A", "B", {"x": 1})]
SUFFIXES = ("", "-wal", "-shm")


def make(path):
    return SqliteJournal(path, boot_id="b", now_ns=count(1).__next__)


def named(path, suffix):
    return path.with_name(path.name + suffix)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(trouble=st.lists(st.lists(st.sampled_from(SUFFIXES), max_size=3, unique=True), min_size=1, max_size=4))
def test_what_was_appended_is_there_whatever_was_deleted_between(tmp_path_factory, trouble):
    path = tmp_path_factory.mktemp("journal") / "j.db"

    async def main():
        journal = make(path)
        for seq, names in enumerate(trouble):
            for suffix in names:
                named(path, suffix).unlink()
            await journal.append(KEY, seq, FACT)
            with open_reader(path) as reader:
                assert len(reader.read(KEY)) == len(journal.read(KEY)) == seq + 1
        told = await journal.restore()
        assert len(told) == sum(bool(names) for names in trouble)
        assert await journal.restore() == []
        await journal.close()

    asyncio.run(main())
    reopened, salvage = open_journal(path, boot_id="b", now_ns=count(1).__next__)
    assert salvage is None
    assert len(reopened.read(KEY)) == len(trouble)
    asyncio.run(reopened.close())
    assert not path.with_name("j.db.putback").exists()


def test_it_is_put_back_without_an_append_and_at_the_end(tmp_path):
    path = tmp_path / "state" / "j.db"
    path.parent.mkdir()

    async def main():
        journal = make(path)
        await journal.append(KEY, 0, FACT)
        shutil.rmtree(path.parent)
        (problem,) = await journal.restore()
        assert problem == f"{path} was deleted while the daemon works with it"
        path.unlink()
        await journal.close()

    asyncio.run(main())
    with open_reader(path) as reader:
        assert len(reader.read(KEY)) == 1


def test_who_took_its_place_is_set_aside_whole(tmp_path):
    path = tmp_path / "j.db"

    async def main():
        journal = make(path)
        await journal.append(KEY, 0, FACT)
        path.rename(tmp_path / "moved")
        path.write_bytes(b"somebody's backup")
        (problem,) = await journal.restore()
        assert "was replaced" in problem
        await journal.append(KEY, 1, FACT)
        await journal.close()

    asyncio.run(main())
    (aside,) = tmp_path.glob("j.db.stranger-*Z")
    assert aside.read_bytes() == b"somebody's backup"


def test_while_it_cannot_be_put_back_nothing_is_durable(tmp_path):
    path = tmp_path / "state" / "j.db"
    path.parent.mkdir()

    async def main():
        journal = make(path)
        await journal.append(KEY, 0, FACT)
        shutil.rmtree(path.parent)
        path.parent.write_text("in the way")
        with pytest.raises(JournalUnavailable, match=r"could not be put back.*don't stop the daemon"):
            await journal.append(KEY, 1, FACT)
        with pytest.raises(JournalUnavailable):
            await journal.restore()
        path.parent.unlink()
        await journal.append(KEY, 1, FACT)
        assert len(journal.read(KEY)) == 2
        await journal.close()

    asyncio.run(main())
    with open_reader(path) as reader:
        assert len(reader.read(KEY)) == 2
