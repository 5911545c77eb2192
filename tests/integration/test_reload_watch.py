"""The allowlist's hot reload with real files and real file events."""

import asyncio
import time
from contextlib import asynccontextmanager, suppress

import pytest

from fsm_miner.reload import AllowlistWatch
from runners.allowlist import Allowed

DEADLINE_S = 20.0


class Lines:
    """Takes log lines, as a bound structlog logger does."""

    def __init__(self):
        self.lines = []

    def info(self, event, **attrs):
        self.lines.append((event, attrs))

    warning = info

    def of(self, event):
        return [attrs for name, attrs in self.lines if name == event]


def text(word, command="/bin/echo"):
    return f"command: {{path: {command}}}\nargs: [['{word}']]\n"


def allows(watch, word, command="echo"):
    return isinstance(watch.current.judge(command, [word]), Allowed)


@asynccontextmanager
async def running(watch):
    task = asyncio.create_task(watch.run())
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(condition, task):
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert not task.done(), task
        assert time.monotonic() < end, "nothing happened in time"
        await asyncio.sleep(0.005)


def replace(path, content):
    beside = path.with_name(path.name + ".new")
    beside.write_text(content)
    beside.rename(path)


def edit(path, content):
    path.write_text(content)


@pytest.mark.parametrize("how", [replace, edit])
@pytest.mark.parametrize("listed_as", ["file", "folder", "glob"])
def test_a_changed_file_is_seen_while_running(tmp_path, how, listed_as):
    path = tmp_path / "d" / "echo.yaml"
    path.parent.mkdir()
    path.write_text(text("old"))
    entry = {"file": path, "folder": path.parent, "glob": path.parent / "*.yaml"}[listed_as]
    log = Lines()

    async def scene():
        watch = AllowlistWatch([str(entry)], log)
        assert allows(watch, "old")
        async with running(watch) as task:
            how(path, text("new"))
            await until(lambda: allows(watch, "new"), task)
            assert not allows(watch, "old")
            how(path, text("newest"))
            await until(lambda: allows(watch, "newest"), task)

    asyncio.run(scene())
    assert log.of("allowlist_file_loaded")[-1]["file"] == str(path)
    assert log.of("allowlist_changed")[-1] == {"commands": ["echo"]}


async def change_until_seen(watch, path, task):
    """Change the file again and again: a watch begins in its own time, and what came before has no event."""
    end = time.monotonic() + DEADLINE_S
    number = 0
    while not any(allows(watch, f"{path.parent.name}{n}") for n in range(number)):
        assert time.monotonic() < end, "no event came"
        assert not task.done(), task
        replace(path, text(f"{path.parent.name}{number}"))
        number += 1
        await asyncio.sleep(0.05)


def test_events_alone_are_enough_and_stopping_does_not_wait_for_the_next_look(tmp_path):
    path = tmp_path / "d" / "echo.yaml"
    path.parent.mkdir()
    path.write_text(text("old"))

    async def scene():
        watch = AllowlistWatch([str(path.parent)], Lines(), poll_s=3_600)
        async with running(watch) as task:
            await change_until_seen(watch, path, task)

    begun = time.monotonic()
    asyncio.run(scene())
    assert time.monotonic() - begun < 2 * DEADLINE_S


def test_the_watch_moves_to_the_folder_that_took_the_place(tmp_path):
    path = tmp_path / "d" / "echo.yaml"
    path.parent.mkdir()
    path.write_text(text("old"))

    async def scene():
        watch = AllowlistWatch([str(path.parent)], Lines(), poll_s=3_600)
        async with running(watch) as task:
            await change_until_seen(watch, path, task)
            path.parent.rename(tmp_path / "d.old")
            path.parent.mkdir()
            path.write_text(text("arrived"))
            await until(lambda: not allows(watch, "d0") and allows(watch, "arrived"), task)
            await change_until_seen(watch, path, task)

    asyncio.run(scene())


def test_a_broken_file_keeps_its_last_rule_and_the_log_says_why(tmp_path):
    (tmp_path / "a.yaml").write_text(text("old", "/bin/a"))
    (tmp_path / "b.yaml").write_text(text("old", "/bin/b"))
    log, states = Lines(), []

    async def scene():
        watch = AllowlistWatch([str(tmp_path)], log, on_change=states.append)
        async with running(watch) as task:
            replace(tmp_path / "a.yaml", "command: {path: /bin/a}\nargs: [['(']]\n")
            replace(tmp_path / "b.yaml", text("new", "/bin/b"))
            await until(lambda: watch.loaded.problems and allows(watch, "new", "b"), task)
            assert allows(watch, "old", "a")
            replace(tmp_path / "a.yaml", text("new", "/bin/a"))
            await until(lambda: allows(watch, "new", "a"), task)
            assert watch.loaded.problems == ()

    asyncio.run(scene())
    assert log.of("allowlist_file_refused") == [
        {
            "file": f"{tmp_path}/a.yaml",
            "problem": f"{tmp_path}/a.yaml:2: args[0][0]: not a regular expression: missing ): (",
            "effect": "its last good rule, for a, stays in force",
        }
    ]
    assert states[-1].problems == ()


def test_a_removed_file_takes_its_rule_along_and_may_come_back(tmp_path):
    path = tmp_path / "echo.yaml"
    path.write_text(text("old"))
    log = Lines()

    async def scene():
        watch = AllowlistWatch([str(path)], log)
        async with running(watch) as task:
            path.unlink()
            await until(lambda: not allows(watch, "old"), task)
            assert "no such file" in watch.loaded.problems[0]
            path.write_text(text("back"))
            await until(lambda: allows(watch, "back"), task)

    asyncio.run(scene())
    assert log.of("allowlist_file_removed") == [{"file": str(path), "command": "echo"}]
    assert "no such file" in log.of("allowlist_problem")[0]["problem"]


@pytest.mark.parametrize("listed_as", ["file", "folder"])
def test_a_folder_replaced_as_a_whole_is_followed(tmp_path, listed_as):
    folder, coming = tmp_path / "d", tmp_path / "d.new"
    folder.mkdir()
    (folder / "echo.yaml").write_text(text("old"))

    async def scene():
        watch = AllowlistWatch(
            [str(folder if listed_as == "folder" else folder / "echo.yaml")], Lines(), poll_s=0.1
        )
        async with running(watch) as task:
            coming.mkdir()
            (coming / "echo.yaml").write_text(text("new"))
            folder.rename(tmp_path / "d.old")
            coming.rename(folder)
            await until(lambda: allows(watch, "new"), task)
            edit(folder / "echo.yaml", text("edited"))
            await until(lambda: allows(watch, "edited"), task)

    asyncio.run(scene())


def test_a_symbolic_link_that_is_turned_is_followed(tmp_path):
    for name in ("one", "two"):
        (tmp_path / f"..{name}").mkdir()
        (tmp_path / f"..{name}" / "echo.yaml").write_text(text(name))
    (tmp_path / "..data").symlink_to("..one")
    (tmp_path / "echo.yaml").symlink_to("..data/echo.yaml")

    async def scene():
        watch = AllowlistWatch([str(tmp_path)], Lines())
        async with running(watch) as task:
            assert allows(watch, "one")
            (tmp_path / "..data.new").symlink_to("..two")
            (tmp_path / "..data.new").rename(tmp_path / "..data")
            await until(lambda: allows(watch, "two"), task)

    asyncio.run(scene())


@pytest.mark.parametrize("depth", [1, 2])
def test_a_folder_removed_and_made_again_is_followed(tmp_path, depth):
    folder = tmp_path.joinpath(*"xy"[:depth])
    folder.mkdir(parents=True)
    path = folder / "echo.yaml"
    path.write_text(text("old"))

    async def scene():
        watch = AllowlistWatch([str(path)], Lines(), poll_s=0.1)
        async with running(watch) as task:
            path.unlink()
            for part in (folder, *folder.parents)[:depth]:
                part.rmdir()
            await until(lambda: not allows(watch, "old"), task)
            folder.mkdir(parents=True)
            path.write_text(text("back"))
            await until(lambda: allows(watch, "back"), task)

    asyncio.run(scene())


def test_a_start_without_any_folder_waits_for_one(tmp_path):
    path = tmp_path / "later" / "echo.yaml"

    async def scene():
        watch = AllowlistWatch([str(path)], Lines(), poll_s=0.05)
        assert watch.current.rules == ()
        async with running(watch) as task:
            path.parent.mkdir()
            path.write_text(text("here"))
            await until(lambda: allows(watch, "here"), task)

    asyncio.run(scene())


def test_refresh_alone_sees_the_change_without_any_event(tmp_path):
    path = tmp_path / "echo.yaml"
    path.write_text(text("old"))
    log, changes = Lines(), []
    watch = AllowlistWatch([str(path)], log, on_change=changes.append)
    assert isinstance(watch.refresh().judge("echo", ["old"]), Allowed)
    path.write_text(text("new"))  # the same size, and perhaps the same time stamp
    assert isinstance(watch.refresh().judge("echo", ["new"]), Allowed)
    lines = len(log.lines)
    watch.refresh()
    assert len(log.lines) == lines
    assert len(changes) == 2
