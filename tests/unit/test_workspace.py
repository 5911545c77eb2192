import asyncio
import os
from pathlib import Path, PurePosixPath

import pytest

from fsm_miner.workspace import Workspace, WorkspaceError, free_bytes, key_of_folder
from journal.port import StreamKey


def test_the_first_attempt_has_the_job_s_own_name_and_later_ones_a_suffix(tmp_path: Path):
    assert Workspace(tmp_path, "j-1", 1).folder == tmp_path / "j-1"
    assert Workspace(tmp_path, "j-1", 2).folder == tmp_path / "j-1@2"


@pytest.mark.parametrize(
    "job_id", ["", ".", "..", ".trash-x", "a/b", "../x", "a@2", "a\0", "a\n", "-a", "ä", "a" * 129]
)
def test_what_is_no_job_id_never_becomes_a_path(tmp_path: Path, job_id: str):
    with pytest.raises(AssertionError):
        Workspace(tmp_path, job_id, 1)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("j-1", StreamKey("j-1", 1)),
        ("j-1@2", StreamKey("j-1", 2)),
        ("j-1@1", None),
        ("j-1@02", None),
        ("j@1@2", None),
        (".trash-j", None),
        ("lost+found", None),
        ("j\n", None),
    ],
)
def test_a_folder_s_name_says_whose_it_is(name: str, key: StreamKey | None):
    assert key_of_folder(name) == key
    if key is not None:
        assert Workspace(Path("/r"), *key).folder.name == name


def test_create_is_idempotent_and_completes_what_a_crash_left(tmp_path: Path):
    space = Workspace(tmp_path / "jobs", "j", 1)
    space.folder.mkdir(parents=True, mode=0o755)
    space.work.mkdir(mode=0o755)
    (space.work / "kept").write_text("x")
    for _ in range(2):
        asyncio.run(space.create())
    parts = (space.folder, space.input, space.work, space.output, space.logs, space.control)
    assert [part.stat().st_mode & 0o7777 for part in parts] == [0o700] * 6
    assert (space.work / "kept").read_text() == "x"


def test_create_takes_no_link_for_a_folder(tmp_path: Path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o755)
    space = Workspace(tmp_path / "jobs", "j", 1)
    space.root.mkdir()
    space.folder.symlink_to(elsewhere)
    with pytest.raises(WorkspaceError, match="is no folder"):
        asyncio.run(space.create())
    assert list(elsewhere.iterdir()) == []
    assert elsewhere.stat().st_mode & 0o777 == 0o755


def test_reset_wipes_what_the_earlier_run_made_and_keeps_its_log(tmp_path: Path):
    space = Workspace(tmp_path, "j", 1)
    asyncio.run(space.reset_for_run(1))
    for folder in (space.input, space.work, space.output, space.control):
        (folder / "old").write_text("old")
    space.stdout.write_text("the first run's")
    space.exec_log.write_text("first")
    asyncio.run(space.reset_for_run(2))
    assert [list(folder.iterdir()) for folder in (space.input, space.work, space.output)] == [[], [], []]
    assert (space.control / "old").exists()
    assert {log.name: log.read_text() for log in space.logs.iterdir()} == {"exec.1.log": "first"}


def test_reset_again_for_the_same_run_loses_no_log(tmp_path: Path):
    space = Workspace(tmp_path, "j", 1)
    asyncio.run(space.create())
    space.exec_log.write_text("first")
    asyncio.run(space.reset_for_run(2))
    asyncio.run(space.reset_for_run(2))
    space.exec_log.write_text("a launch that came to nothing")
    asyncio.run(space.reset_for_run(2))
    logs = {log.name: log.read_text() for log in space.logs.iterdir()}
    assert logs == {"exec.1.log": "first", "exec.2.log": "a launch that came to nothing"}


def test_remove_leaves_nothing_and_may_be_done_again(tmp_path: Path):
    space = Workspace(tmp_path, "j", 2)
    asyncio.run(space.create())
    (space.work / "a").write_text("x")
    asyncio.run(space.remove())
    asyncio.run(space.remove())
    assert list(tmp_path.iterdir()) == []


def test_inputs_appear_in_work_as_links_and_are_placed_again(tmp_path: Path):
    space = Workspace(tmp_path, "j", 1)
    asyncio.run(space.create())
    targets = {"a.mp4": PurePosixPath("/job/input/a.mp4")}
    for _ in range(2):
        asyncio.run(space.link_inputs(targets))
    assert (space.work / "a.mp4").readlink() == Path("/job/input/a.mp4")
    (space.work / "b").write_text("made by hand")
    with pytest.raises(WorkspaceError, match="taken"):
        asyncio.run(space.link_inputs({"b": PurePosixPath("/job/input/b")}))


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".", ".."])
def test_an_input_s_name_is_no_path(tmp_path: Path, name: str):
    space = Workspace(tmp_path, "j", 1)
    asyncio.run(space.create())
    with pytest.raises(AssertionError, match="not a plain name"):
        asyncio.run(space.link_inputs({name: PurePosixPath("/job/input/x")}))


def test_free_bytes_is_what_the_file_system_says(tmp_path: Path):
    found = os.statvfs(tmp_path)
    assert abs(free_bytes(tmp_path) - found.f_bavail * found.f_frsize) < 1 << 30
    with pytest.raises(FileNotFoundError):
        free_bytes(tmp_path / "none")
