import os
import stat
from pathlib import Path

import pytest

from fsm_miner.tree_removal import empty_folder, remove_tree


def nest(top: Path, depth: int, name: str) -> None:
    """Make `depth` nested folders, a file in each, without a path longer than one name."""
    folder = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=folder)
        deeper = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=folder)
        os.close(folder)
        folder = deeper
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=folder))
    os.close(folder)


def test_ten_thousand_nested_folders(tmp_path: Path):
    top = tmp_path / "top"
    top.mkdir()
    nest(top, 10_000, "nested")  # 70,000 bytes of path; PATH_MAX is 4,096
    remove_tree(top)
    assert list(tmp_path.iterdir()) == []


def test_wide_and_deep_at_once(tmp_path: Path):
    top = tmp_path / "top"
    top.mkdir()
    for n in range(20):
        (top / str(n)).mkdir()
        nest(top / str(n), 30, ".up-0")  # the very names the remover uses
    (top / ".up-1").write_text("a file where a folder would be moved to")
    remove_tree(top)
    assert list(tmp_path.iterdir()) == []


def test_no_link_is_followed(tmp_path: Path):
    outside = tmp_path / "outside"
    (outside / "deep").mkdir(parents=True)
    (outside / "canary").write_text("alive")
    top = tmp_path / "top"
    (top / "a").mkdir(parents=True)
    (top / "a" / "folder").symlink_to(outside)
    (top / "folder").symlink_to(outside)
    (top / "file").symlink_to(outside / "canary")
    (top / "dangling").symlink_to("/nowhere/at/all")
    os.mkfifo(top / "a" / "fifo")
    remove_tree(top)
    assert not top.exists()
    assert (outside / "canary").read_text() == "alive"
    assert (outside / "deep").is_dir()


def test_a_link_is_removed_itself(tmp_path: Path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "canary").write_text("alive")
    (tmp_path / "link").symlink_to("outside")
    remove_tree(tmp_path / "link")
    assert [path.name for path in tmp_path.iterdir()] == ["outside"]
    assert (tmp_path / "outside" / "canary").read_text() == "alive"


def test_nothing_there_is_fine(tmp_path: Path):
    remove_tree(tmp_path / "none")
    assert list(tmp_path.iterdir()) == []


def test_folders_without_permissions_as_an_ordinary_user(tmp_path: Path):
    top = tmp_path / "top"
    for path in ("a/b/c", "d", "e/f"):
        (top / path).mkdir(parents=True)
        (top / path / "file").write_text("x")
    unprivileged = os.geteuid() == 0
    if unprivileged:  # root passes every permission check, which would prove nothing
        for path in (top, *top.rglob("*")):
            os.chown(path, 65534, 65534)
    for path, mode in (("a/b/c", 0o000), ("a/b", 0o100), ("a", 0o500), ("d", 0o000), ("e", 0o600)):
        (top / path).chmod(mode)
    folder = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    if unprivileged:
        os.seteuid(65534)
    try:
        empty_folder(folder)
    finally:
        if unprivileged:
            os.seteuid(0)
        os.close(folder)
    assert list(top.iterdir()) == []


def test_what_cannot_be_removed_is_named_and_everything_else_goes(tmp_path: Path):
    if os.geteuid() != 0:
        pytest.skip("needs root to make a file that its owner cannot remove")
    top = tmp_path / "top"
    (top / "theirs").mkdir(parents=True)
    (top / "theirs" / "stuck").write_text("x")
    (top / "ours" / "deep").mkdir(parents=True)
    os.chown(top, 65534, 65534)
    os.chown(top / "ours", 65534, 65534)
    os.chown(top / "ours" / "deep", 65534, 65534)
    folder = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    os.seteuid(65534)
    try:
        with pytest.raises(PermissionError):
            empty_folder(folder)
    finally:
        os.seteuid(0)
        os.close(folder)
    assert [str(path.relative_to(top)) for path in sorted(top.rglob("*"))] == ["theirs", "theirs/stuck"]


def test_a_few_descriptors_are_enough(tmp_path: Path):
    top = tmp_path / "top"
    top.mkdir()
    nest(top, 200, "n")
    spare = os.open(top, os.O_RDONLY)
    os.close(spare)
    highest_before = spare
    remove_tree(top)
    again = os.open(tmp_path, os.O_RDONLY)
    os.close(again)
    assert again == highest_before
    assert stat.S_ISDIR(tmp_path.stat().st_mode)
