"""The few devices that a job has, and the sandbox's program: a job takes them from nobody, also under root."""

import os
import shutil
import stat
from pathlib import Path

import pytest

from runners.own_copies import ORIGINALS, Copies, prepare_copies
from runners.wait import Ended

NAMES = ("full", "null", "random", "tty", "urandom", "zero")
DEVICES = [Path("/dev", name) for name in NAMES if Path("/dev", name).exists()]
BWRAP = Path("/usr/bin/bwrap")

TAKE = f"""
import os, stat
def changed(*changes):
    done = 0
    for change in changes:
        try:
            change()
            done += 1
        except OSError:
            pass
    return done > 0
# Of its own log, output and lock all this may be so.
for n in range(10):
    changed(lambda: os.fchmod(n, 0), lambda: os.chmod(f'/proc/1/fd/{{n}}', 0), lambda: os.utime(n, (0, 0)))
for path in ('/proc/1/exe', *('/dev/' + name for name in {NAMES})):
    if os.path.exists(path):
        mine = os.getuid()
        if changed(lambda: os.chmod(path, 0), lambda: os.chown(path, mine, -1), lambda: os.utime(path, (0, 0))):
            print('changed', path)
        if path != '/proc/1/exe' and path != '/dev/tty':
            with open(path, 'r+b', buffering=0) as file:
                print(path, len(file.read(3)))
print('stdin', os.read(0, 3), stat.S_ISREG(os.fstat(0).st_mode))
"""


def state(path):
    return state_of(path.stat())


def state_of(found):
    return found.st_mode, found.st_uid, found.st_gid


@pytest.fixture
def put_right():
    """Should it be otherwise, this machine must not suffer."""
    before = {path: path.stat() for path in (*DEVICES, BWRAP)}
    yield
    for path, was in before.items():
        if state(path) != state_of(was):
            path.chmod(stat.S_IMODE(was.st_mode))
        if path == BWRAP:
            os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))


@pytest.mark.usefixtures("put_right")
def test_a_job_takes_nothing_that_is_everybodys(runs):
    before = [state(path) for path in (*DEVICES, BWRAP)]
    changed_ns = BWRAP.stat().st_mtime_ns
    spec = runs.python(TAKE)
    ended = runs.finish(spec)
    assert [state(path) for path in (*DEVICES, BWRAP)] == before
    assert BWRAP.stat().st_mtime_ns == changed_ns
    assert ended == Ended(0)
    spec.paths.log.chmod(0o600)
    assert spec.paths.log.read_text().splitlines() == [
        "/dev/full 3",
        "/dev/null 0",
        "/dev/random 3",
        "/dev/urandom 3",
        "/dev/zero 3",
        "stdin b'' True",
    ]


ALWAYS = {*NAMES, "core", "fd", "ptmx", "pts", "shm", "stderr", "stdin", "stdout"}
ANOTHER = [path for path in map(Path, ("/dev/loop-control", "/dev/fuse", "/dev/kmsg")) if path.exists()][:1]


@pytest.mark.parametrize("assigned", [[], ANOTHER], ids=["none", "one"])
def test_a_run_has_the_usual_devices_and_those_it_was_assigned(runs, assigned):
    spec = runs.shell("ls /dev", devices=tuple(map(str, assigned)))
    assert runs.finish(spec) == Ended(0)
    seen = set(spec.paths.log.read_text().split())
    assert {"null", "zero", "shm"} < seen
    assert seen - ALWAYS == {path.name for path in assigned}


def test_copies_are_needed_by_nobody_but_root(tmp_path):
    assert prepare_copies(None, "/usr/bin/bwrap") is ORIGINALS
    assert ORIGINALS.of("/dev/nvidia0") == "/dev/nvidia0"
    ORIGINALS.restore(["/dev/nvidia-that-is-not-there"])
    if os.geteuid() != 0:
        assert prepare_copies(tmp_path / "copies", "/usr/bin/bwrap") is ORIGINALS


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes device nodes")
def test_what_is_not_as_it_should_be_is_made_anew(tmp_path):
    folder = tmp_path / "not" / "there" / "yet"
    copies = prepare_copies(folder, "/usr/bin/bwrap")
    assert copies == Copies(folder, tuple(map(str, DEVICES)), "/usr/bin/bwrap")
    program, null, zero = (Path(copies.of(path)) for path in ("/usr/bin/bwrap", "/dev/null", "/dev/zero"))
    assert program.read_bytes() == BWRAP.read_bytes()
    assert (program.stat().st_uid, stat.S_IMODE(program.stat().st_mode)) == (65534, 0o555)
    first = null.stat()
    assert (first.st_rdev, first.st_uid, stat.S_IMODE(first.st_mode)) == (os.makedev(1, 3), 65534, 0o666)
    copies.restore()
    assert null.stat().st_ino == first.st_ino
    null.chmod(0)
    zero.unlink()
    zero.symlink_to("/dev/full")
    program.write_bytes(b"an older version")
    assert prepare_copies(folder, "/usr/bin/bwrap") == copies
    assert stat.S_IMODE(null.stat().st_mode) == 0o666
    assert not zero.is_symlink()
    assert program.read_bytes() == BWRAP.read_bytes()
    there = sorted(path.name for path in folder.rglob("*") if not path.is_dir())
    assert there == sorted([*(path.name for path in DEVICES), "bwrap"])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes device nodes")
def test_where_root_can_make_none_it_is_said(tmp_path):
    (tmp_path / "file").touch()
    copies = prepare_copies(tmp_path / "file" / "copies", "/usr/bin/bwrap")
    assert copies.of("/dev/null") == "/dev/null"
    assert "run the daemon as another user" in (copies.lack or "")


def test_copies_that_somebody_has_removed_are_there_again_at_the_next_run(runs):
    folder = runs.host.copies.folder
    assert (folder is None) is (os.geteuid() != 0)
    if folder is not None:
        shutil.rmtree(folder)
    assert runs.finish(runs.shell("echo hi > /dev/null")) == Ended(0)
