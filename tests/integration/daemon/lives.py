"""Lives of a job, each played by a real daemon and coordinator, and what must be true of each however often the
daemon was killed in the middle of it."""

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from states.table import FINAL, State
from tests.integration.daemon.rig import Rig, holders, printed, sh

BIG_BYTES = 700_000
INPUT = b"0123456789" * 30_000
SECRET = "a-secret-that-no-disk-may-see"
# From the moment that a run's lock exists to the moment that its process does, nobody can tell whether it ran: such a
# run counts as lost, and the next one is started.
LOCKED = {"file.open:logs/exec.log", "file.open:control/status", "file.open:logs/stdout", "process.spawn"}
TASK = """
import pathlib, sys


def run(word):
    print("started", file=sys.stderr)
    pathlib.Path("said").write_text(word)
"""


@dataclass(frozen=True)
class Life:
    """How a job goes. `act` is called again and again until it returns true, with or without a daemon there."""

    manifest: Callable[[Rig], dict[str, Any]]
    expect: tuple[str, ...]  # "result", an error code, or "none": what may be delivered
    artifacts: dict[str, bytes]
    act: Callable[[Rig, str], bool] = lambda _rig, _job: True
    before: Callable[[Rig], None] = lambda _rig: None
    runs: int = 1


def _input(rig: Rig, name: str) -> dict[str, Any]:
    url = rig.coordinator.put_file(name, INPUT)
    return {
        "urls": [{"url": url, "name": "x", "sha256": hashlib.sha256(INPUT).hexdigest()}],
        "inline": {"t": "y"},
    }


def _success(rig: Rig) -> dict[str, Any]:
    manifest = printed(
        f"echo started >&2; head -c {BIG_BYTES} /dev/zero >$JOB_OUTPUT/big; cat x t", input=_input(rig, "x")
    )
    return {**manifest, "artifacts": [*manifest["artifacts"], {"path": "big", "type": "a/b"}]}


def _retried(rig: Rig) -> dict[str, Any]:
    return printed("echo started >&2; cat x t", input=_input(rig, "flaky"))


def _up(rig: Rig, job_id: str) -> bool:
    log = rig.node.exec_log(job_id)
    return log.exists() and "started" in log.read_text()


def _cancel(rig: Rig, job_id: str) -> bool:
    if not _up(rig, job_id) or not rig.coordinator.ask("GET", f"/admin/jobs/{job_id}")["progress"]:
        return False
    rig.coordinator.cancel(job_id)
    return True


def _cancel_before_the_ack(rig: Rig, job_id: str) -> bool:
    if "Offered" not in rig.node.events(job_id):
        return False
    rig.coordinator.cancel(job_id)
    rig.coordinator.no_faults()
    return True


def _kill_and_go(rig: Rig, job_id: str) -> bool:
    """Kill the daemon once while the job runs; let the job end when it was found again."""
    events = rig.node.events(job_id)
    if "Reattached" in events:
        (rig.node.jobs / job_id / "work" / "go").touch()
        return True
    marker = rig.node.folder / f"{job_id}.killed"
    if _up(rig, job_id) and events[-1:] == ["Launched"] and not marker.exists():
        marker.touch()
        rig.node.kill()
        rig.node.start(wait=False)
    return False


def _overtake(rig: Rig, job_id: str) -> bool:
    if not _up(rig, job_id):
        return False
    rig.coordinator.offer({**printed("echo started >&2; echo two"), "job_id": job_id, "attempt": 2})
    return True


UNTIL_GO = "while ! test -e go; do sleep 0.02; done"
LIVES = {
    "success": Life(_success, ("result",), {"out.txt": INPUT + b"y", "big": bytes(BIG_BYTES)}),
    "failure": Life(lambda _: sh("echo started >&2; exit 3"), ("E_EXIT",), {}),
    "denial": Life(
        lambda _: {"runner": "cli", "command": "rm", "args": ["-rf", "/"]}, ("E_DENY",), {}, runs=0
    ),
    "time-out": Life(lambda _: sh("echo started >&2; sleep 60", timeout_s=0.3), ("E_TIMEOUT",), {}),
    "cancel": Life(lambda _: sh("echo started >&2; sleep 60"), ("E_CANCELLED",), {}, _cancel),
    "input-retried": Life(
        _retried,
        ("result",),
        {"out.txt": INPUT + b"y"},
        before=lambda rig: rig.coordinator.fault("/files/flaky", "status:503"),
    ),
    "delivery-retried": Life(
        lambda _: printed("echo started >&2; echo end"),
        ("result",),
        {"out.txt": b"end\n"},
        before=lambda rig: rig.coordinator.fault("/jobs/result", "status:503"),
    ),
    "refused": Life(
        lambda _: printed("echo started >&2; echo end"),
        ("E_UPLOAD",),
        {},
        before=lambda rig: rig.coordinator.fault("/jobs/result", "status:422", times=-1),
    ),
    "secret": Life(
        lambda _: printed('echo started >&2; echo "${#API_KEY}"', secrets={"API_KEY": SECRET}),
        ("result", "E_NORESOURCE"),
        {"out.txt": f"{len(SECRET)}\n".encode()},
    ),
    "task": Life(
        lambda _: {
            "runner": "python",
            "task": "say",
            "params": {"word": "hi"},
            "artifacts": [{"path": "said", "type": "text/plain"}],
        },
        ("result",),
        {"said": b"hi"},
    ),
    "taken-back": Life(
        lambda _: printed("echo started >&2; echo end"),
        ("none",),
        {},
        _cancel_before_the_ack,
        before=lambda rig: rig.coordinator.fault("/jobs/ack", "status:503", times=-1),
        runs=0,
    ),
    "found-again": Life(
        lambda _: printed(f"echo started >&2; {UNTIL_GO}; echo end"),
        ("result",),
        {"out.txt": b"end\n"},
        _kill_and_go,
    ),
}


def over(rig: Rig, job_id: str) -> bool:
    """Whether the coordinator and the journal both say that the job is over; takes up to 0.1 s to say no."""
    if not rig.coordinator.ask("GET", f"/admin/wait?job={job_id}&timeout=0.1")["over"]:
        return False
    records = rig.node.stream(job_id)
    return bool(records) and State(records[-1].dest) in FINAL


def check(rig: Rig, job_id: str, life: Life, point: str) -> str:
    """Check what an outsider sees of a job that is over; return what was delivered."""
    outcomes = rig.coordinator.outcomes(job_id)
    told = [one["body"].get("error_code", "result") for one in outcomes] or ["none"]
    assert len(told) == 1, f"{job_id}: delivered {told}"
    assert told[0] in life.expect, (told, outcomes)
    if told[0] == "result":
        for path, content in life.artifacts.items():
            assert rig.coordinator.artifact(job_id, path) == content, path
    records = rig.node.stream(job_id)
    events = Counter(record.event for record in records)
    assert events["OutcomeKnown"] == (0 if told == ["none"] else 1), events
    assert events["Delivered"] + events["Superseded"] == 1, events
    check_runs(rig, job_id, records, life.runs + (point in LOCKED), told[0])
    return told[0]


def check_runs(rig: Rig, job_id: str, records: list[Any], runs_max: int, told: str) -> None:
    """Check that each run was intended once, and that its command ran at most once; the last, exactly once."""
    intended = [record.data["run"] for record in records if record.event == "LaunchIntended"]
    assert len(set(intended)) == len(intended) <= runs_max, f"{job_id}: runs {intended}, expected {runs_max}"
    folder = rig.node.jobs / job_id
    # The log of a job whose secrets a restart made the daemon forget is withheld as a whole, once the run has ended.
    texts = {log.name: log.read_text() for log in folder.glob("logs/exec*.log")}
    said = {name: text.count("started") + text.count("log is withheld") for name, text in texts.items()}
    assert all(times <= 1 for times in said.values()), said
    ended = [record.data["how"] for record in records if record.event == "Ended"]
    assert sum(said.values()) == len(ended) - ended.count("lost"), (said, ended)
    if told == "result":
        assert said["exec.log"] == 1, said
    left = [lock.name for lock in folder.glob("control/*.lock") if holders(lock)]
    assert left == [], f"{job_id}: alive: {left}"
    assert list(folder.glob("input/.part-*")) == [], job_id
