"""Every attack for real: it gets what it must, its neighbour does not feel it, and the daemon answers throughout."""

from pathlib import Path

import pytest

from tests.hostile.attacks import ATTACKS
from tests.hostile.conftest import ABSTRACT, neighbour, run_alone, took_s
from tests.integration.daemon.rig import processes, until

SLOWER_AT_MOST = 1.5
TRIES = 4


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_it_harms_nobody(rig, alone_s, asker, attack, report):
    with asker.asking():
        for _ in range(TRIES):
            view, beside_s = run_beside(rig, attack)
            check(rig, attack, view)
            if beside_s <= SLOWER_AT_MOST * alone_s:
                break
            # The machine is shared: what slows the neighbour down without the attack, too, is not its doing.
            alone_s = run_alone(rig)
        else:
            pytest.fail(f"the neighbour took {beside_s:.2f} s instead of {alone_s:.2f} s, {TRIES} times")
    assert asker.problems == []
    assert asker.asked >= 2
    outcome = view["outcomes"][0]["body"]
    report.append(
        {
            "attack": attack.name,
            "got": outcome.get("error_code", "done"),
            "neighbour": round(beside_s / alone_s, 2),
            "healthz_slowest_s": round(asker.slowest_s, 3),
        }
    )


def run_beside(rig, attack):
    """Run the attack and its neighbour side by side; return what came of the one, and how long the other took."""
    manifest = attack.manifest(str(rig.node.folder))
    ports = [rig.coordinator.port, int(rig.node.status_url().rpartition(":")[2])]
    manifest["args"][1] = manifest["args"][1].replace("PORTS", str(ports)).replace("ABSTRACT_NAME", ABSTRACT)
    hostile, beside = rig.coordinator.submit(manifest, neighbour())
    if attack.cancel:
        rig.node.await_printed(hostile, attack.lines[0])
        rig.coordinator.cancel(hostile)
    view = rig.coordinator.wait(hostile)
    other = rig.coordinator.wait(beside)
    assert other["state"] == "done", other["outcomes"]
    return view, took_s(rig, beside)


def check(rig, attack, view):
    job_id = view["job_id"]
    (outcome,) = view["outcomes"]
    body = outcome["body"]
    log = rig.node.exec_log(job_id)
    printed = log.read_text(errors="replace").splitlines() if log.exists() else []
    assert body.get("error_code") == attack.code, (body, printed[-5:])
    assert attack.message in body.get("error_msg", "")
    for line in attack.lines:
        assert line in printed, printed[-10:]
    until(lambda: not living(rig, job_id), "nothing of it lives")


def living(rig, job_id):
    """Return what lives of a job: its sandbox's first process, and whoever has one of its files open."""
    found = set(processes(rig.node.jobs / job_id)) - {rig.node.pid}
    try:
        state = Path(f"/proc/{rig.node.sandbox_pid(job_id)}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return found
    # A zombie is dead; who became its parent when `timeout` was gone reaps it in its own time.
    return found if state == "Z" else {*found, "the sandbox"}


def test_a_swapped_artifact_is_what_was_written_last(rig):
    """What the attack above left behind died with it: nothing of the host was uploaded."""
    (attack,) = [one for one in ATTACKS if one.name == "swapped artifact"]
    view = rig.coordinator.run(attack.manifest(""))
    assert rig.coordinator.artifact(view["job_id"], "out.bin") == b"honest"


def test_the_daemon_reloads_its_rules_while_a_job_holds_all_watches_it_can_get(rig):
    script = (
        "import ctypes, os, time\nlibc = ctypes.CDLL(None)\nn = 0\n"
        "while n < 100000 and libc.inotify_init1(0) >= 0: n += 1\n"
        "print('held', flush=True)\n"
        "while not os.path.exists('/job/work/go'): time.sleep(0.02)"
    )
    (job_id,) = rig.coordinator.submit(
        {"runner": "cli", "command": "python3", "args": ["-c", script], "timeout_s": 30}
    )
    rig.node.await_printed(job_id, "held")
    rig.node.allow("true", {"command": {"path": "/usr/bin/true"}, "args": []})
    view = rig.coordinator.run({"runner": "cli", "command": "true", "args": [], "timeout_s": 10})
    (rig.node.jobs / job_id / "work" / "go").touch()
    rig.coordinator.wait(job_id)
    assert view["state"] == "done"


def test_no_two_attacks_are_the_same():
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS) >= 40
