import asyncio
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from fsm_miner.sweeper import Finished, Retention, Sweeper, empty_trash, expired
from fsm_miner.workspace import TRASH_PREFIX, Workspace
from journal.port import StreamKey

S = 1_000_000_000
DAY = 86_400.0
KEEP = Retention(success_s=DAY, failed_s=7 * DAY)


def make(root: Path, *keys: StreamKey) -> None:
    for key in keys:
        space = Workspace(root, *key)
        asyncio.run(space.create())
        (space.work / "file").write_text("x")


def names(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir())


def test_a_success_goes_after_a_day_and_a_failure_after_a_week():
    good, bad = StreamKey("good", 1), StreamKey("bad", 1)
    ends = [Finished(good, success=True, at_ns=100 * S), Finished(bad, success=False, at_ns=100 * S)]
    day = 86_400 * S
    assert expired(ends, 100 * S + day - 1, KEEP) == []
    assert expired(ends, 100 * S + day, KEEP) == [good]
    assert expired(ends, 100 * S + 7 * day, KEEP) == [good, bad]


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 10**19)), max_size=5),
    st.integers(0, 10**19),
    st.floats(0, 1e8),
    st.floats(0, 1e8),
)
def test_nothing_that_ends_in_the_future_or_was_kept_too_short_goes(ends, now_ns, success_s, failed_s):
    finished = [Finished(StreamKey(f"j{n}", 1), good, at) for n, (good, at) in enumerate(ends)]
    gone = set(expired(finished, now_ns, Retention(success_s, failed_s)))
    for job in finished:
        keep_s = success_s if job.success else failed_s
        assert (job.key in gone) == (now_ns - job.at_ns >= keep_s * S)
        assert job.key not in gone or job.at_ns <= now_ns


def test_zero_is_at_once():
    ended = Finished(StreamKey("j", 1), success=True, at_ns=5)
    assert expired([ended], 5, Retention(0, 0)) == [ended.key]


def test_only_expired_folders_of_final_jobs_are_removed(tmp_path: Path):
    old, young, runs = StreamKey("old", 2), StreamKey("young", 1), StreamKey("old", 1)
    make(tmp_path, old, young, runs)
    ends = [Finished(old, success=True, at_ns=0), Finished(young, success=False, at_ns=0)]
    sweeper = Sweeper(tmp_path, KEEP)
    swept = asyncio.run(sweeper.sweep(ends, [old, young, runs], 2 * 86_400 * S))
    assert swept.removed == (old,)
    assert (swept.unknown, swept.problems) == ((), ())
    assert names(tmp_path) == ["old", "young"]
    again = asyncio.run(sweeper.sweep(ends, [old, young, runs], 2 * 86_400 * S))
    assert again.removed == ()


def test_what_the_journal_does_not_know_is_left_alone_and_reported_once(tmp_path: Path):
    make(tmp_path, StreamKey("known", 1), StreamKey("stranger", 1))
    (tmp_path / "lost+found").mkdir()
    (tmp_path / "a file").write_text("x")
    (tmp_path / "link").symlink_to("/etc")
    sweeper = Sweeper(tmp_path, Retention(0, 0))

    def sweep() -> tuple[str, ...]:
        return asyncio.run(sweeper.sweep([], [StreamKey("known", 1)], 10)).unknown

    before = names(tmp_path)
    assert sweep() == ("lost+found", "stranger")
    assert sweep() == ()
    make(tmp_path, StreamKey("another", 1))
    assert sweep() == ("another",)
    assert names(tmp_path) == sorted([*before, "another"])


def test_no_root_is_nothing_to_sweep(tmp_path: Path):
    ended = Finished(StreamKey("j", 1), success=True, at_ns=0)
    swept = asyncio.run(Sweeper(tmp_path / "none", Retention(0, 0)).sweep([ended], [], 10))
    assert (swept.removed, swept.unknown, swept.problems) == ((), (), ())
    assert asyncio.run(empty_trash(tmp_path / "none")) == []


def test_a_removal_that_was_cut_off_is_finished_at_start(tmp_path: Path):
    make(tmp_path, StreamKey("kept", 1), StreamKey("half", 1))
    (tmp_path / "half").rename(tmp_path / f"{TRASH_PREFIX}half-0123")
    (tmp_path / f"{TRASH_PREFIX}file").write_text("x")
    (tmp_path / f"{TRASH_PREFIX}link").symlink_to(tmp_path / "kept")
    swept = asyncio.run(Sweeper(tmp_path, Retention(0, 0)).sweep([], [StreamKey("kept", 1)], 10))
    assert swept.unknown == ()
    assert asyncio.run(empty_trash(tmp_path)) == []
    assert names(tmp_path) == ["kept"]
    assert (tmp_path / "kept" / "work" / "file").exists()
