"""Make a golden journal: the real daemon, real jobs, real trouble; then what came of each, as JSON.

    python -m tests.golden.make [NAME]        in the repository's root; writes tests/golden/<NAME or version>/

Run once for a release, and never again for that one: the files are the proof that later releases still read what
this one wrote. Everything happens below /tmp/golden-node, so that no other path can get into the records.
"""

import json
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from fsm_miner import __version__
from journal import open_reader
from tests.integration.daemon.rig import Rig, end_all, kill_holders, printed, sh, until

FOLDER = Path("/tmp/golden-node")
EXPECTED = "expected.json"


def success(rig: Rig) -> None:
    rig.coordinator.run(printed("echo hello", job_id="g-success"))


def failure(rig: Rig) -> None:
    rig.coordinator.run(sh("echo no >&2; exit 3", job_id="g-failure"))


def denial(rig: Rig) -> None:
    rig.coordinator.run({"runner": "cli", "command": "rm", "args": ["-r", "x"], "job_id": "g-denied"})


def no_manifest(rig: Rig) -> None:
    rig.coordinator.offer({"job_id": "g-invalid", "runner": "cli", "command": 7, "attempt": 1})
    rig.coordinator.outcome_of_offer("g-invalid")


def timeout(rig: Rig) -> None:
    rig.coordinator.run(sh("sleep 60", timeout_s=1, job_id="g-timeout"))


def cancel(rig: Rig) -> None:
    rig.coordinator.submit(sh("echo up; sleep 60", job_id="g-cancelled"))
    rig.node.await_printed("g-cancelled", "up")
    rig.coordinator.cancel("g-cancelled")
    rig.coordinator.wait("g-cancelled")


def output_limit(rig: Rig) -> None:
    rig.coordinator.run(sh("head -c 20000000 /dev/zero >big; sleep 60", job_id="g-output"))


def missing_artifact(rig: Rig) -> None:
    declared = [{"path": name, "type": "text/plain", "max_mb": 1} for name in ("one.txt", "two.txt")]
    rig.coordinator.run(sh("touch ../output/one.txt", artifacts=declared, job_id="g-no-artifact"))


def delivery_retries(rig: Rig) -> None:
    rig.coordinator.fault("/jobs/result", "status:503", times=2)
    rig.coordinator.run(printed("echo late", job_id="g-delivered-late"))


def refused_result(rig: Rig) -> None:
    rig.coordinator.fault("/jobs/result", "status:413")
    rig.coordinator.run(printed("echo large", job_id="g-revised"))


def superseded_at_the_ack(rig: Rig) -> None:
    rig.coordinator.fault("/jobs/ack", "status:409", times=1)
    rig.coordinator.submit(printed("echo x", job_id="g-taken"))
    rig.node.await_event("g-taken", "Superseded")


def superseded_at_the_delivery(rig: Rig) -> None:
    rig.coordinator.fault("/jobs/result", "status:409")
    rig.coordinator.submit(printed("echo x", job_id="g-superseded"))
    rig.node.await_event("g-superseded", "Superseded")


def reattached(rig: Rig) -> None:
    rig.coordinator.submit(
        printed("echo up >&2; while ! test -e go; do sleep 0.02; done", job_id="g-reattached")
    )
    rig.node.await_printed("g-reattached", "up")
    for count in (1, 2):
        rig.node.restart()
        rig.node.await_event("g-reattached", "Reattached", count)
    (rig.node.jobs / "g-reattached" / "work" / "go").touch()
    rig.coordinator.wait("g-reattached")


def run_again(rig: Rig) -> None:
    rig.coordinator.submit(
        printed("echo up >&2; test -e ../output/seen || sleep 0.5; echo end", job_id="g-lost")
    )
    rig.node.await_printed("g-lost", "up")
    rig.node.kill()
    assert kill_holders(rig.node.lock_of("g-lost"))
    rig.node.start()
    rig.coordinator.wait("g-lost")


def unfinished(rig: Rig) -> None:
    """Leave one job running and one undelivered, as an upgrade finds them."""
    rig.coordinator.submit(sh("echo up; sleep 60", job_id="g-running"))
    rig.node.await_printed("g-running", "up")
    rig.coordinator.fault("/jobs/result", "status:503", times=-1)
    rig.coordinator.submit(printed("echo x", job_id="g-undelivered"))
    rig.node.await_event("g-undelivered", "RetryScheduled")


STORIES = (
    success, failure, denial, no_manifest, timeout, cancel, output_limit, missing_artifact, delivery_retries,
    refused_result, superseded_at_the_ack, superseded_at_the_delivery, reattached, run_again, unfinished,
)  # fmt: skip


def expected(path: Path) -> dict[str, Any]:
    """Return what the writer itself recorded: of each stream the events with the states around them, and the head."""
    streams: dict[str, Any] = {}
    with open_reader(path) as reader:
        for key, head in reader.verify().items():
            records = reader.stored(key)
            streams[str(key)] = {
                "steps": [[r.event, r.version, r.source, r.dest] for r in records],
                "ended_ns": records[-1].at_ns,
                "head": head.hash,
                "outcome": _outcome([r for r in records if r.event.startswith("Outcome")]),
            }
    return {"version": __version__, "streams": dict(sorted(streams.items()))}


def _outcome(told: list[Any]) -> list[Any] | None:
    if not told:
        return None
    data = told[-1].data
    return [data["code"], data["message"], [one["path"] for one in data.get("artifacts", ())]]


@contextmanager
def _rig() -> Iterator[Rig]:
    FOLDER.mkdir(mode=0o700)  # whatever is there already is not ours
    rig = Rig(
        FOLDER, "--offer-s", "1", heartbeat={"interval_s": 0.2, "backoff": {"min_s": 0.05, "max_s": 0.2}}
    )
    try:
        rig.node.start()
        yield rig
    finally:
        end_all(FOLDER)
        rig.coordinator.http.close()
        shutil.rmtree(FOLDER)


def main(name: str) -> None:
    """Make the journal `name`."""
    target = Path(__file__).parent / name
    with _rig() as rig:
        for story in STORIES:
            print(story.__name__, flush=True)
            story(rig)
            if story is not unfinished:
                until(lambda: rig.node.health()["jobs"] == [], f"{story.__name__} is over")
        rig.node.stop()
        path = rig.node.journal_file
        # One file, as small as it can be: nothing in it is changed.
        with closing(sqlite3.connect(path, isolation_level=None)) as conn:
            conn.execute("PRAGMA journal_mode = DELETE")
            conn.execute("VACUUM")
            conn.execute("PRAGMA journal_mode = WAL")
        told = expected(path)
        target.mkdir()
        shutil.copyfile(path, target / "journal.db")
        (target / EXPECTED).write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else __version__)
