"""Where a command may write: to a name that is free, and with --force over a plain file; over nothing else."""

import os
import socket
from pathlib import Path

import pytest

from fsm_miner.cli.outcome import ExitCode, Refused
from fsm_miner.cli.writing import check_free, write_file


def folder(path):
    path.mkdir()


def link(path):
    (path.parent / "elsewhere").write_text("somebody's")
    path.symlink_to("elsewhere")


def dangling(path):
    path.symlink_to("nowhere")


def socket_file(path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


def two_names(path):
    path.write_text("somebody's")
    (path.parent / "elsewhere").hardlink_to(path)


MAKERS = {
    folder: "a folder",
    link: "a link",
    dangling: "a link",
    os.mkfifo: "a pipe",
    socket_file: "a socket",
    two_names: "a file with 2 names",
}


def names(folder):
    return sorted((path.name, path.lstat().st_ino) for path in folder.iterdir())


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("make", MAKERS)
def test_only_a_plain_file_with_one_name_is_replaced(tmp_path, monkeypatch, make, force):
    monkeypatch.chdir(tmp_path)  # a socket's name is short
    make(Path("there"))
    before = names(tmp_path)
    with pytest.raises(Refused) as refused:
        write_file(Path("there"), b"mine", force=force)
    assert refused.value.code is ExitCode.HOST
    assert str(refused.value).startswith(f"there: {MAKERS[make]} is there, and only a plain file")
    assert "--force" not in str(refused.value)
    assert names(tmp_path) == before


@pytest.mark.parametrize("force", [False, True])
def test_a_device_is_not_a_file(force):
    with pytest.raises(Refused, match="/dev/null: a device is there") as refused:
        check_free(Path("/dev/null"), force=force)
    assert refused.value.code is ExitCode.HOST


def test_a_plain_file_is_replaced_when_it_is_asked_for(tmp_path):
    there = tmp_path / "there"
    there.write_text("somebody's")
    with pytest.raises(Refused, match="is there already; --force replaces it") as refused:
        write_file(there, b"mine")
    assert (refused.value.code, there.read_text()) == (ExitCode.NO, "somebody's")
    write_file(there, b"mine", force=True)
    assert there.read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
