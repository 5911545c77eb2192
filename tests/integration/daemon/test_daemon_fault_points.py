"""SIGKILL for the daemon before and after every append, every effect, and every change of a file on the way.

One clean run plays all lives and writes down the points that each passes. Then each point's side is taken once, in the
first life that passes it: the daemon ends itself there, and whatever follows it must find everything in order. Who
follows is the daemon that will end itself in the *next* job, so that one start serves one kill.
"""

import itertools
import signal
import subprocess
import sys
from collections import Counter

import pytest

from fsm_miner.fault_points.spec import CALLS, SITE, VARIABLE
from states.events import VERSIONS
from states.table import FINAL, State
from tests.integration.daemon.lives import LIVES, SECRET, TASK, UNTIL_GO, check, over
from tests.integration.daemon.rig import printed, processes, sh, until

# Passed or not, as time will have it, in every life: each is taken where it is sure to be passed.
TIMED = {"coordinator.progress": "cancel", "file.open:control/usage": "cancel"}
# Nothing of these is about one job.
OF_NOBODY = {f"coordinator.{call}" for call in ("register", "heartbeat", "pull", "reconcile")}


class Book:
    """The points that a clean run passes: for each life its own, each taken in one life only; and those of nobody."""

    def __init__(self, text, jobs):
        lines = [tuple(line.split(" ")) for line in text.splitlines()]
        self.all = {point for _, point, _ in lines}
        self.of_nobody = sorted({(side, point) for side, point, _ in lines if point in OF_NOBODY})
        taken = set()
        self.of_life = {}
        for life, job_id in jobs.items():
            passed = dict.fromkeys((side, point) for side, point, job in lines if job == job_id)
            mine = [one for one in passed if one not in taken and TIMED.get(one[1], life) == life]
            taken.update(mine)
            self.of_life[life] = mine
        self.taken = {point for _, point in taken} | {point for _, point in self.of_nobody}


class Play:
    """A rig, and the daemon's next end."""

    def __init__(self, rig):
        self.rig = rig
        self.kills = 0
        self.told = Counter()
        self.expected = set()
        self.numbers = itertools.count()

    def submit(self, life, job_id):
        manifest = {**LIVES[life].manifest(self.rig), "job_id": job_id}
        LIVES[life].before(self.rig)
        self.rig.coordinator.submit(manifest)
        self.expected.add(job_id)

    def start(self, spec=None):
        self.rig.node.env = {} if spec is None else {VARIABLE: spec}
        self.rig.node.start(wait=False)

    def finish(self, life, job_id, died=lambda: None):
        """Play the life to its end; `died` starts the next daemon."""
        acted = False

        def ended():
            nonlocal acted
            acted = acted or LIVES[life].act(self.rig, job_id)
            if not self.rig.node.alive():
                assert self.rig.node.exit_code() == -signal.SIGKILL, self.rig.node.output.read_text()[-2000:]
                self.kills += 1
                died()
            return acted and over(self.rig, job_id)

        until(ended, f"{life}: {job_id} is over")
        self.rig.coordinator.no_faults()

    def await_death(self, kills, spec, after):
        """Wait for a death that comes after the job's last record."""
        if self.kills < kills:
            assert self.rig.node.exit_code(5) == -signal.SIGKILL, f"{spec}: the daemon lived"
            self.kills += 1
            self.start(after)

    def check(self, life, job_id, point):
        self.told[check(self.rig, job_id, LIVES[life], point)] += 1


@pytest.fixture(scope="module")
def play(shared_rigs):
    # An offer that a killed daemon took with it comes back soon.
    rig = shared_rigs("--offer-s", "0.3", start=False)
    rig.node.task("say", TASK)
    rig.node.secrets.add(SECRET)
    return Play(rig)


@pytest.fixture(autouse=True)
def _ended(play):
    """Leave no daemon to the next test."""
    yield
    if play.rig.node.process is not None:
        play.rig.node.kill()
    play.rig.coordinator.no_faults()


@pytest.fixture(scope="module")
def book(play, tmp_path_factory):
    file = tmp_path_factory.mktemp("book") / "points"
    play.start(f"list {file}")
    until(play.rig.node.registered, "the daemon is there")
    jobs = {life: f"clean-{life}" for life in LIVES}
    for life, job_id in jobs.items():
        play.submit(life, job_id)
        play.finish(life, job_id)
        play.check(life, job_id, "")
    seen = play.rig.coordinator.run(sh("env", job_id="clean-environment"))
    assert seen["state"] == "done"
    play.expected.add("clean-environment")
    assert VARIABLE not in play.rig.coordinator.log_of("clean-environment"), "a job inherited it"
    play.rig.node.await_idle()
    play.rig.node.stop()
    assert play.kills == 0
    assert {one["attrs"]["spec"] for one in play.rig.node.log("fault_points_on")} == {f"list {file}"}
    return Book(file.read_text(), jobs)


@pytest.mark.parametrize("life", LIVES)
def test_killed_at_each_point_of_a_life(play, book, life):
    points = book.of_life[life]
    jobs = [f"{life}-{next(play.numbers)}" for _ in points]
    specs = [f"{side} {point}@{job}" for (side, point), job in zip(points, jobs, strict=True)]
    play.start(specs[0] if specs else None)
    before = play.kills
    for n, job_id in enumerate(jobs):
        play.submit(life, job_id)
        after = specs[n + 1] if n + 1 < len(specs) else None
        play.finish(life, job_id, lambda spec=after: play.start(spec))
        play.await_death(before + n + 1, specs[n], after)
        play.check(life, job_id, points[n][1])
    until(play.rig.node.registered, "the last daemon is there")
    play.rig.node.await_idle()
    play.rig.node.stop()
    in_order(play)


def test_killed_around_the_calls_that_are_about_no_job(play, book):
    """One daemon after the other finds a job that runs and one that waits, and dies."""
    node, coordinator = play.rig.node, play.rig.coordinator
    assert len(book.of_nobody) == 2 * len(OF_NOBODY)
    running, *waiting = (f"nobody-{n}" for n in range(1 + len(book.of_nobody)))
    play.start()
    coordinator.submit(printed(f"echo started >&2; {UNTIL_GO}; echo end", job_id=running))
    node.await_event(running, "Launched")
    node.kill()
    for (side, point), job_id in zip(book.of_nobody, waiting, strict=True):
        coordinator.submit(printed("echo started >&2; echo end", job_id=job_id))
        play.start(f"{side} {point}")
        assert node.exit_code() == -signal.SIGKILL, point
        play.kills += 1
    play.expected |= {running, *waiting}
    play.start()
    (node.jobs / running / "work" / "go").touch()
    for job_id in (running, *waiting):
        until(lambda job_id=job_id: over(play.rig, job_id), f"{job_id} is over")
        play.check("found-again", job_id, "")
    node.stop()
    in_order(play)


@pytest.mark.parametrize("side", ["before", "after"])
def test_killed_around_the_end_of_an_attempt_that_was_overtaken(play, side):
    """A later attempt was handed out, and written down; the earlier one is still running, and not yet given up."""
    node, coordinator = play.rig.node, play.rig.coordinator
    job_id = f"overtaken-{side}"
    play.expected.add(job_id)
    play.start(f"{side} journal.append:AbandonRequested@{job_id}")
    coordinator.offer({**sh("echo started >&2; sleep 60"), "job_id": job_id})
    node.await_printed(job_id, "started")
    coordinator.offer({**printed("echo two"), "job_id": job_id, "attempt": 2})
    assert node.exit_code() == -signal.SIGKILL
    play.kills += 1
    assert node.events(job_id, 2)[:1] == ["Offered"]
    play.start()
    for attempt in (1, 2):
        until(
            lambda n=attempt: State(node.stream(job_id, n)[-1].dest) in FINAL,
            f"attempt {attempt} is over",
            10,
        )
    (outcome,) = coordinator.outcomes(job_id)
    assert (outcome["attempt"], outcome["kind"]) == (2, "result")
    assert coordinator.artifact(job_id, "out.txt", 2) == b"two\n"
    assert node.events(job_id).count("Superseded") == 1
    until(node.registered, "the daemon is there")
    node.stop()
    in_order(play)


def in_order(play):
    """Check what an outsider sees of the whole node while no daemon is there."""
    node = play.rig.node
    assert set(processes(node.folder.parent)) == {play.rig.coordinator.pid}
    folders = {path.name for path in node.jobs.iterdir()}
    assert {name.partition("@")[0] for name in folders if not name.startswith(".")} <= play.expected
    assert [name for name in folders if name.startswith(".trash-")] == []
    assert node.log("folder_unknown") == []
    command = [sys.executable, "-P", "-m", "fsm_miner.cli", "verify", "--config", str(node.config_file)]
    verified = subprocess.run(command, capture_output=True, text=True, check=False, env={"MINER_AUTH": "x"})
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert list((play.rig.coordinator.folder / "data" / "incoming").iterdir()) == []


def test_no_event_call_or_effect_is_left_out(play, book):
    appended = {
        event
        for point in book.taken
        if point.startswith("journal.append:")
        for event in point.partition(":")[2].split("+")
    }
    assert set(VERSIONS) - appended == {"AbandonRequested"}  # which has a test of its own
    assert {f"coordinator.{call}" for call in CALLS} | {f"site.{name}" for name in SITE} <= book.taken
