"""Who is ended when the disk fills up: the one who fills it, and nobody else."""

import errno

from hypothesis import given, settings
from hypothesis import strategies as st

from runners.measure import Written
from runners.reserve import DiskReserve, Space
from runners.shortage import is_shortage, refused_by_disk

MIB = 1 << 20


class World:
    """A disk with a reserve of 64 MiB and 2000 files."""

    def __init__(self, tmp_path, free_mb=100, free_files=100_000):
        self.space = Space(free_mb * MIB, free_files)
        self.reserve = DiskReserve(tmp_path, 64 * MIB, 2000, space=lambda _: self.space)

    def look(self, name, mb, files=10):
        return self.reserve.judge(name, Written(0, int(mb * MIB), files))


def test_with_enough_space_nobody_is_ended(tmp_path):
    world = World(tmp_path, free_mb=32)
    assert world.reserve.short() is None
    assert world.look("a", 1000) is None


def test_below_half_of_the_reserve_whoever_took_most_of_it_is_ended(tmp_path):
    world = World(tmp_path)
    world.look("slow", 5)
    world.look("fast", 5)
    world.look("still", 50)
    world.space = Space(31 * MIB, None)
    assert world.look("still", 50) is None
    assert "wrote 25.0 MiB" in world.look("fast", 25)
    assert world.look("slow", 7) is None
    world.reserve.forget("fast")
    world.space = Space(10 * MIB, None)
    assert "10 MiB were left" in world.look("slow", 12)


def test_after_one_was_named_the_next_must_take_a_part_of_what_was_left(tmp_path):
    world = World(tmp_path)
    world.look("fast", 5)
    world.look("slow", 5)
    world.space = Space(31 * MIB, None)
    assert world.look("fast", 25) is not None
    world.space = Space(28 * MIB, None)
    assert world.look("slow", 8) is None
    world.space = Space(27 * MIB, None)
    assert world.look("slow", 9) is not None


def test_who_wrote_before_the_disk_was_short_is_not_the_one(tmp_path):
    world = World(tmp_path)
    world.look("large", 500)
    world.space = Space(63 * MIB, None)
    assert world.look("late", 20) is None
    world.space = Space(31 * MIB, None)
    assert world.look("large", 501) is None
    assert world.look("late", 33) is not None


def test_who_hardly_writes_is_left_alone_although_no_other_job_does(tmp_path):
    world = World(tmp_path)
    world.look("a", 5)
    world.space = Space(8 * MIB, None)
    assert world.look("a", 6) is None


def test_who_has_written_next_to_nothing_is_not_the_one_even_if_nothing_is_left(tmp_path):
    world = World(tmp_path)
    world.space = Space(0, 0)
    assert world.look("a", 0.01) is None


def test_files_run_out_too(tmp_path):
    world = World(tmp_path)
    world.look("a", 1, files=10)
    world.space = Space(1000 * MIB, 999)
    assert world.look("large", 999, files=1) is None
    assert "999 more files" in world.look("a", 1, files=2000)
    assert World(tmp_path, free_files=None).reserve.short() is None


def test_a_disk_that_is_gone_says_nothing_against_anybody(tmp_path):
    reserve = DiskReserve(tmp_path / "nowhere", 64 * MIB, 2000)
    assert reserve.short() is None
    assert reserve.judge("a", Written(0, 100 * MIB, 10)) is None


@settings(max_examples=50, deadline=None)
@given(weights=st.lists(st.integers(1, 1000), min_size=1, max_size=20))
def test_any_number_of_writers_at_any_pace_never_fill_the_disk(tmp_path_factory, weights):
    """Each writes at its own pace, a MiB a second together; who is named stops, and what it wrote stays."""
    world = World(tmp_path_factory.getbasetemp())
    wrote = dict.fromkeys(range(len(weights)), 0)
    running = set(wrote)
    while running and sum(wrote.values()) < 100 * MIB:
        for number in sorted(running):
            wrote[number] += max(1, MIB * weights[number] // sum(weights))
            world.space = Space(100 * MIB - sum(wrote.values()), None)
            if world.reserve.judge(str(number), Written(0, wrote[number], 1)) is not None:
                running.discard(number)
                world.reserve.forget(str(number))
        if sum(weights[number] for number in running) * 64 < sum(weights):
            break  # what is left of them would take an hour for what the others did in a minute
    assert len(running) < len(weights)
    assert sum(wrote.values()) < 92 * MIB  # a quarter of the half that is for others is there in the end


def test_what_is_a_shortage_and_what_the_disk_s_word():
    for number in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN):
        assert is_shortage(OSError(number, "x"))
    assert refused_by_disk(OSError(errno.EROFS, "x"))
    assert not is_shortage(OSError(errno.ENOSPC, "x"))
    assert not is_shortage(ValueError("x"))
    further = ValueError("a step further")
    further.__cause__ = OSError(errno.EMFILE, "x")
    assert is_shortage(further)
