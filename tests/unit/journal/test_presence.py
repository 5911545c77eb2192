"""A database whose name is taken away while it is open: nothing counts as durable until it has one again."""

import asyncio
import shutil
import subprocess
import sys
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from journal import Entry, JournalUnavailable, SqliteJournal, StreamKey, open_journal, open_reader
from journal.presence import STRANGERS_MAX

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


# Killed while it is put back.

KILLED = """
import asyncio, os, signal, sqlite3, sys
from itertools import count
from pathlib import Path
from journal import Entry, SqliteJournal, StreamKey

KEY = StreamKey("j-1", 1)

def fact(n):
    return [Entry("E", 1, "A", "B", {"x": n})]

def make(path):
    return SqliteJournal(path, boot_id="b", now_ns=count(1).__next__)

async def fill(path):
    journal = make(path)
    await journal.append(KEY, 0, fact(0))
    await journal.close()  # so this is in the database, and the next only in its log

async def put_back(path, how, killed_at):
    journal = make(path)
    await journal.append(KEY, 1, fact(1))
    if how == "stranger":
        (path.parent / "x").write_bytes(b"hello")
        (path.parent / "x").replace(path)
    elif how == "backup":
        (path.parent / "backup").replace(path)
    elif how == "wal":
        path.with_name("j.db-wal").unlink()
    else:
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink()
    steps = count()
    def at(event, args):
        touched = event.startswith(("os.", "open", "sqlite3.")) and any("j.db" in str(arg) for arg in args)
        if touched and next(steps) == killed_at:
            (path.parent / "step").write_text(f"{event} {args}")
            os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(at)
    await journal.restore()
    os._exit(0)

folder, how = Path(sys.argv[1]), sys.argv[2]
for step in range(100):
    path = folder / str(step) / "j.db"
    path.parent.mkdir()
    pid = os.fork()
    if pid == 0:
        try:
            asyncio.run(fill(path))
            (path.parent / "backup").write_bytes(path.read_bytes())
            asyncio.run(put_back(path, how, step))
        finally:
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    if os.WIFEXITED(status):
        sys.exit(os.WEXITSTATUS(status))
sys.exit("never done")
"""


@pytest.mark.parametrize("how", ["deleted", "stranger", "backup", "wal"])
def test_killed_at_any_step_the_next_start_finishes_it(tmp_path, how):
    subprocess.run([sys.executable, "-P", "-c", KILLED, tmp_path, how], check=True)
    folders = sorted(tmp_path.iterdir(), key=lambda folder: int(folder.name))
    made = False
    for folder in folders:
        path = folder / "j.db"
        step = (folder / "step").read_text() if folder != folders[-1] else "done"
        made = made or step.startswith("os.rename") or step == "done"
        begun = path.with_name("j.db.putback").exists()
        for again in (False, True):
            journal, report = open_journal(path, boot_id="b", now_ns=count(10**18).__next__)
            kept = len(journal.read(KEY))
            journal.verify()
            asyncio.run(journal.close())
            # Before the copy is made, only the daemon that was killed had it all; what is lost then is told.
            assert kept == 2 or not made, step
            if again or made:
                assert report is None, step
            elif begun and kept < 2:
                assert report is not None, step
        assert not list(folder.glob("j.db.putback*")), step
        if how == "stranger" and made:
            (aside,) = folder.glob("j.db.stranger-*Z")
            assert aside.read_bytes() == b"hello"
    assert made
    assert len(folders) > 8


def test_a_copy_cut_short_fills_no_place_that_is_filled(tmp_path):
    path = tmp_path / "j.db"

    async def main():
        journal = make(path)
        await journal.append(KEY, 0, FACT)
        await journal.close()

    asyncio.run(main())
    named(path, ".putback").write_bytes(path.read_bytes())
    named(path, ".putback-journal").write_bytes(b"not committed")
    journal, report = open_journal(path, boot_id="b", now_ns=count(1).__next__)
    assert report.aside == named(path, ".unfinished")
    assert len(journal.read(KEY)) == 1
    asyncio.run(journal.close())
    assert {one.name for one in tmp_path.iterdir()} == {"j.db", "j.db.unfinished"}


def test_a_copy_cut_short_is_salvaged_where_nothing_else_is_left(tmp_path):
    path = tmp_path / "j.db"

    async def main():
        journal = make(path)
        for seq in range(30):
            await journal.append(KEY, seq, [Entry("E", 1, "A", "B", {"x": "y" * 1000})])
        await journal.close()

    asyncio.run(main())
    size = path.stat().st_size
    path.rename(named(path, ".putback"))
    with named(path, ".putback").open("r+b") as copy:
        copy.seek(size - 8192)
        copy.write(bytes(4096))  # a page that was not written yet
    named(path, ".putback-journal").write_bytes(b"not committed")
    journal, report = open_journal(path, boot_id="b", now_ns=count(1).__next__)
    assert 0 < report.records < 30
    assert len(journal.read(KEY)) == report.records
    asyncio.run(journal.close())
    assert not list(tmp_path.glob("j.db.putback*"))


# Who may put it back, and how often.


def test_it_is_not_put_back_where_the_place_is_not_ours(tmp_path):
    path = tmp_path / "state" / "j.db"
    path.parent.mkdir()
    reasons = ["another daemon works there"]

    async def main():
        journal = make(path)
        journal.put_back_unless(lambda: next(iter(reasons), None))
        await journal.append(KEY, 0, FACT)
        path.parent.rename(tmp_path / "moved")
        path.parent.mkdir()
        path.write_bytes(b"the other's")
        with pytest.raises(JournalUnavailable, match="another daemon works there"):
            await journal.append(KEY, 1, FACT)
        assert [one.name for one in path.parent.iterdir()] == ["j.db"]
        assert path.read_bytes() == b"the other's"
        reasons.clear()
        await journal.append(KEY, 1, FACT)
        assert len(await journal.restore()) == 1
        await journal.close()

    asyncio.run(main())
    with open_reader(path) as reader:
        assert len(reader.read(KEY)) == 2


def test_so_many_strangers_are_kept_and_then_it_is_held_back(tmp_path):
    path = tmp_path / "j.db"

    async def main():
        journal = SqliteJournal(path, boot_id="b", now_ns=count(1, 10**6).__next__)
        for seq in range(STRANGERS_MAX):
            path.unlink()
            path.write_bytes(b"stranger")
            await journal.append(KEY, seq, FACT)
        path.unlink()
        path.write_bytes(b"one too many")
        with pytest.raises(JournalUnavailable, match=r"5 files .* were set aside already"):
            await journal.append(KEY, STRANGERS_MAX, FACT)
        assert path.read_bytes() == b"one too many"
        asides = list(tmp_path.glob("j.db.stranger-*Z"))
        assert len(asides) == STRANGERS_MAX
        asides[0].unlink()
        await journal.append(KEY, STRANGERS_MAX, FACT)
        await journal.close()

    asyncio.run(main())
    with open_reader(path) as reader:
        assert len(reader.read(KEY)) == STRANGERS_MAX + 1


def test_a_copy_that_found_no_place_is_gone_before_anything_is_appended(tmp_path):
    path = tmp_path / "j.db"

    async def main():
        journal = make(path)
        await journal.append(KEY, 0, FACT)
        log = named(path, "-wal")
        log.rename(tmp_path / "log")
        log.mkdir()  # it can't be removed as a file is
        with pytest.raises(JournalUnavailable, match="could not be put back"):
            await journal.append(KEY, 1, FACT)
        assert named(path, ".putback-whole").exists()
        log.rmdir()
        (tmp_path / "log").rename(log)
        await journal.append(KEY, 1, FACT)
        assert await journal.restore() == []
        assert not list(tmp_path.glob("j.db.putback*"))
        await journal.close()

    asyncio.run(main())
    reopened, report = open_journal(path, boot_id="b", now_ns=count(1).__next__)
    assert report is None
    assert len(reopened.read(KEY)) == 2
    asyncio.run(reopened.close())
