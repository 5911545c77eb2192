"""What a job wrote and a power cut took is never delivered as if it were right."""

import os

from tests.integration.daemon.rig import holders, printed, sh, until

# Well over a block, and every byte of it known.
SCRIPT = "i=0; while test $i -lt 3000; do echo line-$i; i=$((i+1)); done"
RIGHT = "".join(f"line-{n}\n" for n in range(3000)).encode()


def synced(*paths):
    """Write back what lies there, as the kernel does after a while by itself."""
    for path in paths:
        fd = os.open(path, os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)


def test_a_collected_artifact_survives_until_it_is_delivered(machines):
    machine = machines()
    machine.coordinator.fault("/jobs/result", "status:503", times=-1)
    nested = sh(
        f"mkdir -p a/b; ({SCRIPT}) > a/b/out.txt", artifacts=[{"path": "a/b/out.txt", "type": "text/plain"}]
    )
    jobs = machine.coordinator.submit(printed(SCRIPT), nested)
    for job in jobs:
        machine.node.await_event(job, "OutcomeKnown")
    machine.cut_and_on()
    machine.coordinator.no_faults()
    machine.check(jobs)
    assert machine.coordinator.artifact(jobs[0], "out.txt") == RIGHT
    assert machine.coordinator.artifact(jobs[1], "a/b/out.txt") == RIGHT
    assert [machine.node.events(job).count("Launched") for job in jobs] == [1, 1]


def test_a_good_end_that_nobody_saw_before_the_cut_is_no_proof_of_its_files(machines):
    machine = machines()
    (job,) = machine.coordinator.submit(
        printed(f"echo up >&2; while ! test -e go; do sleep 0.02; done; {SCRIPT}")
    )
    machine.node.await_printed(job, "up")
    machine.node.kill()
    (machine.node.jobs / job / "work" / "go").touch()
    until(lambda: not holders(machine.node.lock_of(job)), "the job ends without a daemon")
    # The exit code was written back, and the lock's name, and half of what was printed.
    control = machine.node.jobs / job / "control"
    synced(
        control / "run-1.status", control / "run-1.lock", control, machine.node.jobs / job, machine.node.jobs
    )
    stdout = machine.node.jobs / job / "logs" / "stdout"
    os.truncate(stdout, len(RIGHT) // 2)
    synced(stdout)
    machine.cut()
    machine.power_on(start=False)
    assert '"exit-code": 0' in (control / "run-1.status").read_text()
    assert stdout.read_bytes() == RIGHT[: len(RIGHT) // 2]
    machine.node.start()
    # The second run waits for a file as the first one did.
    machine.node.await_event(job, "Launched", 2)
    (machine.node.jobs / job / "work" / "go").touch()
    machine.coordinator.wait(job)
    assert machine.coordinator.artifact(job, "out.txt") == RIGHT
    machine.check([job])


def test_an_artifact_that_rotted_in_the_cut_is_noticed(machines):
    """A disk that lied about its syncs: same length, same inode, same times, other bytes."""
    machine = machines()
    machine.coordinator.fault("/jobs/result", "status:503", times=-1)
    (job,) = machine.coordinator.submit(printed(SCRIPT))
    machine.node.await_event(job, "OutcomeKnown")
    machine.cut()
    machine.power_on(start=False)
    stdout = machine.node.jobs / job / "logs" / "stdout"
    before = stdout.stat()
    with stdout.open("r+b") as file:
        file.seek(4096)
        file.write(bytes(512))
    os.utime(stdout, ns=(before.st_atime_ns, before.st_mtime_ns))
    machine.node.start()
    machine.coordinator.no_faults()
    view = machine.coordinator.wait(job)
    (outcome,) = view["outcomes"]
    assert (outcome["kind"], outcome["body"]["error_code"]) == ("fail", "E_ARTIFACT")
    assert "out.txt" in outcome["body"]["error_msg"]
