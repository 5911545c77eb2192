"""Who is ended when the disk fills up: the one who fills it, and nobody else."""

import errno

from runners.measure import Written
from runners.reserve import DiskReserve, Space
from runners.shortage import is_shortage, refused_by_disk

MIB = 1 << 20


class World:
    def __init__(self, tmp_path, free_mb=100, free_files=100_000):
        self.space = Space(free_mb * MIB, free_files)
        self.now_s = 0.0
        self.reserve = DiskReserve(
            tmp_path, 64 * MIB, 2000, space=lambda _: self.space, monotonic=lambda: self.now_s
        )

    def look(self, name, mb, files=10):
        return self.reserve.judge(name, Written(0, int(mb * MIB), files))


def test_with_enough_space_nobody_is_ended(tmp_path):
    world = World(tmp_path, free_mb=32)
    assert world.reserve.short() is None
    assert world.look("a", 1000) is None


def test_below_half_of_the_reserve_the_fastest_is_ended(tmp_path):
    world = World(tmp_path)
    world.look("slow", 5)
    world.look("fast", 5)
    world.look("still", 50)
    world.now_s, world.space = 1.0, Space(31 * MIB, None)
    assert world.look("still", 50) is None
    assert "wrote 25.0 MiB" in world.look("fast", 25)
    assert world.look("slow", 7) is None
    world.reserve.forget("fast")
    world.now_s = 2.0
    assert "31 MiB were left" in world.look("slow", 9)


def test_who_hardly_writes_is_left_alone_although_nobody_else_does(tmp_path):
    world = World(tmp_path)
    world.look("a", 5)
    world.now_s, world.space = 1.0, Space(0, None)
    assert world.look("a", 5.5) is None


def test_files_run_out_too(tmp_path):
    world = World(tmp_path)
    world.look("a", 1, files=10)
    world.now_s, world.space = 1.0, Space(1000 * MIB, 999)
    assert "999 more files" in world.look("a", 1, files=2000)
    assert World(tmp_path, free_files=None).reserve.short() is None


def test_a_disk_that_is_gone_says_nothing_against_anybody(tmp_path):
    reserve = DiskReserve(tmp_path / "nowhere", 64 * MIB, 2000)
    assert reserve.short() is None


def test_what_is_a_shortage_and_what_the_disk_s_word():
    for number in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN):
        assert is_shortage(OSError(number, "x"))
    assert refused_by_disk(OSError(errno.EROFS, "x"))
    assert not is_shortage(OSError(errno.ENOSPC, "x"))
    assert not is_shortage(ValueError("x"))
    further = ValueError("a step further")
    further.__cause__ = OSError(errno.EMFILE, "x")
    assert is_shortage(further)
