"""What a launch hands to bwrap: where the kernel has too little for it, nothing leaks and the reason stays."""

import errno
import os
from pathlib import Path

import pytest

from runners import launch


def raising(number):
    def refuse(*_args):
        raise OSError(number, os.strerror(number))

    return refuse


def open_now():
    return sorted(entry.name for entry in Path("/proc/self/fd").iterdir())


def test_what_fits_is_read_from_a_pipe_and_what_does_not_from_memory(monkeypatch):
    for fits in (True, False):
        if not fits:
            monkeypatch.setattr(launch, "_written", lambda *_: False)
        with launch._pipe_of(b"options") as fd:
            assert os.read(fd, 100) == b"options"
            assert Path(f"/proc/self/fd/{fd}").readlink().name.startswith("pipe:" if fits else "memfd:")


@pytest.mark.parametrize(
    ("name", "instead"),
    [("open_memory", raising(errno.ENOMEM)), ("_written", raising(errno.ENOMEM))],
)
def test_a_shortage_stays_one_and_leaves_nothing_open(monkeypatch, name, instead):
    if name == "open_memory":
        monkeypatch.setattr(launch, "_written", lambda *_: False)
    monkeypatch.setattr(launch, name, instead)
    before = open_now()
    with pytest.raises(OSError, match="Cannot allocate memory"), launch._pipe_of(b"options"):
        pytest.fail("there is nothing to hand out")
    assert open_now() == before
