"""Random SIGKILLs for the daemon and for the coordinator, under hundreds of jobs: nothing is lost, nothing doubled."""

import random
import time
from collections import Counter
from dataclasses import dataclass, field

import pytest

from tests.integration.daemon.rig import holders, printed, sh, until

JOBS = 200
SEED = 20
BIG_EVERY, BIG_BYTES = 5, 2_000_000  # so that both sides die in the middle of an upload too


@dataclass
class Storm:
    """What was asked for, and what was killed meanwhile."""

    rng: random.Random
    jobs: dict[str, int] = field(default_factory=dict)  # job id: the exit code that its command ends with
    daemon_kills: int = 0
    coordinator_kills: int = 0

    def manifests(self, count):
        for n in range(count):
            job_id = f"storm-{n}"
            code = self.rng.choice([0, 0, 0, 0, 7])
            more = f"head -c {BIG_BYTES} /dev/zero >big; " if n % BIG_EVERY == 0 else ""
            script = f"echo started >&2; sleep {self.rng.uniform(0, 0.3):.2f}; {more}echo {n}; exit {code}"
            made = printed if code == 0 else sh
            self.jobs[job_id] = code
            manifest = made(script, job_id=job_id, priority=self.rng.randrange(3))
            if more and code == 0:
                manifest["artifacts"].append({"path": "big", "type": "a/b"})
            yield manifest

    def pass_over(self, rig):
        """Kill until all is over: after some more jobs have ended, so that a slow machine gets on too; or at once."""
        finished = 0
        while finished < JOBS:
            if self.rng.random() < 0.8:
                finished = self.await_ends(rig, finished + self.rng.randint(1, 14))
            time.sleep(self.rng.uniform(0, 0.3))  # the random moment
            self.kill_something(rig)

    def await_ends(self, rig, count):
        def ended():
            counts = rig.coordinator.ask("GET", "/admin/stats")["counts"]
            now = counts.get("done", 0) + counts.get("failed", 0)
            return now if now >= min(count, JOBS) else 0

        return until(ended, f"{count} jobs are over", 60)

    def kill_something(self, rig):
        if self.rng.random() < 0.35:
            rig.coordinator.kill()
            self.coordinator_kills += 1
            time.sleep(self.rng.uniform(0, 0.2))  # an outage of random length
            rig.coordinator.start()
        else:
            rig.node.kill()
            self.daemon_kills += 1
            rig.node.start(wait=False)


@pytest.fixture(scope="module")
def passed(shared_rigs):
    """Let the storm pass over a rig, and return both."""
    rig = shared_rigs("--offer-s", "1", resources={"max_concurrent_cpu": 8})
    storm = Storm(random.Random(SEED))
    rig.coordinator.submit(*storm.manifests(JOBS))
    storm.pass_over(rig)
    until(rig.node.registered, "the node is back")
    rig.node.await_idle()
    return rig, storm


def test_no_outcome_is_lost_or_doubled(passed):
    rig, storm = passed
    told = Counter(one["job_id"] for one in rig.coordinator.outcomes())
    assert told == Counter(list(storm.jobs)), {
        "lost": set(storm.jobs) - set(told),
        "told": told.most_common(3),
    }
    done = sum(code == 0 for code in storm.jobs.values())
    assert rig.coordinator.wait_all() == {"done": done, "failed": JOBS - done}
    print(f"{JOBS} jobs, {storm.daemon_kills} + {storm.coordinator_kills} kills, 0 lost, 0 doubled")
    assert storm.daemon_kills >= 10
    assert storm.coordinator_kills >= 10


def test_each_outcome_is_the_job_s_own(passed):
    rig, storm = passed
    for one in rig.coordinator.outcomes():
        code, body = storm.jobs[one["job_id"]], one["body"]
        assert one["key"] == f"{one['job_id']}/1/{one['kind']}"
        if code == 0:
            number = one["job_id"].removeprefix("storm-")
            assert (one["kind"], body["exit_code"]) == ("result", 0)
            assert rig.coordinator.artifact(one["job_id"], "out.txt") == f"{number}\n".encode()
            assert rig.coordinator.log_of(one["job_id"]) == "started\n"
            if int(number) % BIG_EVERY == 0:
                assert rig.coordinator.artifact(one["job_id"], "big") == bytes(BIG_BYTES)
        else:
            assert (one["kind"], body["error_code"]) == ("fail", "E_EXIT")


def test_each_run_was_started_once_as_journaled(passed):
    rig, storm = passed
    for job_id in storm.jobs:
        records = rig.node.stream(job_id)
        runs = [record.data["run"] for record in records if record.event == "LaunchIntended"]
        ended = [record.data["how"] for record in records if record.event == "Ended"]
        assert runs == sorted(set(runs)), f"{job_id}: {runs}"
        assert len(ended) == len(runs), f"{job_id}: {runs} {ended}"
        # A run that was lost between its lock and its process printed nothing; a run that ended did it once.
        logs = [log.read_text() for log in (rig.node.jobs / job_id / "logs").glob("exec*.log")]
        said = sorted(text.count("started") for text in logs if text)
        assert said == [1] * ended.count("exited"), f"{job_id}: {logs} {ended}"
        assert sum(record.event == "Delivered" for record in records) == 1, job_id


def test_nothing_is_left(passed):
    rig, storm = passed
    assert {path.name for path in rig.node.jobs.iterdir() if path.is_dir()} == set(storm.jobs)
    assert [lock for lock in rig.node.jobs.glob("*/control/*.lock") if holders(lock)] == []
    assert list((rig.coordinator.folder / "data" / "incoming").iterdir()) == []
