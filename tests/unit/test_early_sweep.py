import asyncio

from fsm_miner.early_sweep import EarlySweep
from fsm_miner.sweeper import Finished
from fsm_miner.workspace import Workspace
from journal.port import StreamKey

KIB = 1024


class Log:
    def __init__(self):
        self.lines = []

    def warning(self, event, **attrs):
        self.lines.append((event, attrs))

    def told(self, event):
        return [attrs for name, attrs in self.lines if name == event]


def job(root, name, size, at_ns=0, *, success=True):
    space = Workspace(root, name, 1)
    asyncio.run(space.create())
    (space.work / "file").write_bytes(bytes(size))
    return Finished(StreamKey(name, 1), success=success, at_ns=at_ns)


def short_for(looks):
    """Be short of space at so many looks."""
    left = iter(range(looks))
    return lambda: next((f"jobs: {n} MiB free" for n in left), None)


def test_while_there_is_room_nothing_goes(tmp_path):
    log = Log()
    early = EarlySweep(tmp_path, lambda: None, log=log)
    asyncio.run(early.sweep([job(tmp_path, "a", KIB)]))
    assert (tmp_path / "a").exists()
    assert (log.lines, early.troubles()) == ([], ())


def test_the_largest_goes_first_then_the_oldest_until_there_is_room(tmp_path):
    jobs = [
        job(tmp_path, "young", KIB, 3),
        job(tmp_path, "old", KIB, 1),
        job(tmp_path, "large", 900 * KIB, 9, success=False),
    ]
    job(tmp_path, "runs", 2000 * KIB)
    log = Log()
    early = EarlySweep(tmp_path, short_for(3), log=log)
    asyncio.run(early.sweep(jobs))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs", "young"]
    first, second = log.told("swept_early")
    assert (first["job_id"], second["job_id"]) == ("large", "old")
    assert 900 * KIB <= first["bytes"] < 1000 * KIB


def test_what_finished_jobs_hold_is_told_while_space_is_short(tmp_path):
    early = EarlySweep(tmp_path, lambda: "jobs: 0 MiB free", log=Log())
    assert early.troubles() == ()
    asyncio.run(early.sweep([job(tmp_path, "a", KIB)]))
    (told,) = early.troubles()
    assert told.startswith(f"{tmp_path}: finished jobs hold 0 MiB there")


def test_what_cannot_be_removed_is_reported_once_until_it_is_tried_again(tmp_path):
    async def refuse(space):
        if space.key.job_id == "stuck":
            raise OSError("an immutable file")
        await space.remove()

    finished = [job(tmp_path, "stuck", 2048 * KIB), job(tmp_path, "other", KIB)]
    log = Log()
    early = EarlySweep(tmp_path, lambda: "jobs: 0 MiB free", log=log, remove=refuse)
    asyncio.run(early.sweep(finished))
    asyncio.run(early.sweep(finished))
    (told,) = log.told("folder_not_removed")
    assert told["problem"].startswith(f"{tmp_path}/stuck: could not be removed completely")
    assert [one["job_id"] for one in log.told("swept_early")] == ["other"]
    assert "finished jobs hold 2 MiB in 1 folder," in early.troubles()[0]
    early.try_again()
    asyncio.run(early.sweep(finished))
    assert len(log.told("folder_not_removed")) == 2


def test_a_link_in_a_folders_place_is_not_followed(tmp_path):
    target = tmp_path / "elsewhere"
    target.mkdir()
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "a").symlink_to(target)
    log = Log()
    early = EarlySweep(tmp_path / "jobs", lambda: "jobs: 0 MiB free", log=log)
    asyncio.run(early.sweep([Finished(StreamKey("a", 1), success=True, at_ns=0)]))
    assert target.exists()
    assert log.lines == []
