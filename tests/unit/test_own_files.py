"""The daemon's open files: mended where the place is ours, held back where it is another daemon's."""

import asyncio
from itertools import count

from fsm_miner.instance import Instance
from fsm_miner.own_files import OwnFiles
from journal import Entry, SqliteJournal, StreamKey

KEY = StreamKey("j-1", 1)
FACT = [Entry("E", 1, "A", "B", {})]


class Log:
    def __init__(self):
        self.events = []

    def error(self, event, **fields):
        self.events.append(event)


class Life:
    """A lock and a journal in a folder, as a daemon has them."""

    def __init__(self, folder):
        self.instance = Instance(folder)
        self.journal = SqliteJournal(folder / "j.db", boot_id="b", now_ns=count(1).__next__)
        self.log = Log()
        self.own = OwnFiles(self.instance, self.journal, log=self.log)

    async def end(self):
        await self.journal.close()
        self.instance.close()


def inodes(folder):
    return {one.name: one.stat().st_ino for one in folder.iterdir()}


def test_a_folder_moved_away_and_back_is_never_put_over_another_daemon(tmp_path):
    state, moved = tmp_path / "state", tmp_path / "moved"

    async def main():
        first = Life(state)
        await first.journal.append(KEY, 0, FACT)
        state.rename(moved)
        second = Life(state)
        await second.journal.append(KEY, 0, FACT)
        before = inodes(state)
        assert "another daemon" in await first.own.lock()
        said = await first.own.journal()
        assert "was replaced" in said
        assert "another daemon" in said
        assert inodes(state) == before
        state.rename(tmp_path / "seconds")
        moved.rename(state)
        assert await first.own.journal() is None
        await first.journal.append(KEY, 1, FACT)
        assert "another daemon" in await second.own.journal()
        (tmp_path / "seconds").rename(moved)
        state.rename(tmp_path / "firsts")
        moved.rename(state)
        await second.journal.append(KEY, 1, FACT)
        await second.end()
        state.rename(moved)
        (tmp_path / "firsts").rename(state)
        await first.end()
        assert first.log.events == second.log.events == []

    asyncio.run(main())
    assert not [one for one in tmp_path.rglob("*") if "stranger" in one.name or "putback" in one.name]


def test_a_deleted_lock_is_taken_again_before_the_journal_is_put_back(tmp_path):
    async def main():
        life = Life(tmp_path)
        await life.journal.append(KEY, 0, FACT)
        for one in tmp_path.iterdir():
            one.unlink()
        await life.journal.append(KEY, 1, FACT)
        assert {"daemon.lock", "j.db"} <= inodes(tmp_path).keys()
        assert await life.own.lock() is None
        assert await life.own.journal() is None
        assert life.log.events == ["journal_put_back"]
        await life.end()

    asyncio.run(main())
