"""Every way a job can end, each through a real daemon: code, message, and what the coordinator is told."""

import hashlib
import re

import pytest

from tests.integration.daemon.rig import holders, kill_holders, printed, sh


@pytest.fixture(scope="module")
def rig(shared_rigs):
    return shared_rigs()


def failed(view, code, *, retryable, words):
    """Check the one failure that was delivered."""
    assert view["result_calls"] == 0
    assert len(view["outcomes"]) == 1, view["outcomes"]
    body = view["outcomes"][0]["body"]
    assert (body["error_code"], body["retryable"]) == (code, retryable), body
    for word in words:
        assert re.search(word, body["error_msg"]), body["error_msg"]


def offer_failed(rig, raw, code, *, retryable, words):
    rig.coordinator.offer(raw)
    outcome = rig.coordinator.outcome_of_offer(raw["job_id"])
    failed({"result_calls": 0, "outcomes": [outcome]}, code, retryable=retryable, words=words)


# A success, to compare with.


def test_success_delivers_artifacts_log_and_metadata(rig):
    manifest = sh(
        "echo to stdout; echo to stderr >&2; mkdir -p deep; printf data > deep/file; printf more > $JOB_OUTPUT/more",
        artifacts=[{"path": "deep/file", "type": "a/b"}, {"path": "gone", "type": "a/b", "optional": True}],
    )
    view = rig.coordinator.run(manifest)
    assert view["state"] == "done"
    (outcome,) = view["outcomes"]
    metadata = outcome["body"]
    job_id = view["job_id"]
    assert outcome["key"] == f"{job_id}/1/result"
    assert (metadata["exit_code"], metadata["node_id"]) == (0, "node-e2e")
    assert metadata["artifacts"] == [
        {"path": "deep/file", "type": "a/b", "size": 4, "sha256": hashlib.sha256(b"data").hexdigest()}
    ]
    assert rig.coordinator.artifact(job_id, "deep/file") == b"data"
    assert rig.coordinator.log_of(job_id) == "to stdout\nto stderr\n"
    heads = {record.hash for record in rig.node.stream(job_id)}
    assert metadata["journal_head"] in heads


# E_INVALID and E_DENY.


def test_invalid(rig):
    raw = {**sh("true", timeout_s=-5), "job_id": "bad-timeout"}
    offer_failed(rig, raw, "E_INVALID", retryable=False, words=["timeout_s", "greater than 0"])


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        ({"runner": "cli", "command": "rm", "args": ["-rf", "/"]}, ["rm", "allow"]),
        ({"runner": "cli", "command": "echo", "args": ["HELLO"]}, [r"args\[0\]", "HELLO", r"\[a-z \]"]),
        (sh("true", env={"PYTHONPATH": "x"}), ["env", "PYTHONPATH"]),
        (sh("true", env={"OTHER": "x"}), ["env", "OTHER", "API_KEY, GREETING"]),
        (sh("true", secrets={"LD_PRELOAD": "x"}), ["secrets", "LD_PRELOAD"]),
        (sh("true", network={"allow": ["example.com:443"]}), [r"network\.allow", "example.com:443"]),
        ({"runner": "python", "task": "nowhere"}, ["nowhere", "no task"]),
        (sh("true", input={"urls": ["http://example.com/x"]}), [r"input\.urls\[0\]", "sha256"]),
    ],
    ids=["command", "args", "env-never", "env", "secrets", "network", "task", "plain-http"],
)
def test_deny(rig, manifest, words):
    failed(rig.coordinator.run(manifest), "E_DENY", retryable=False, words=words)


def test_deny_of_a_host_inside(rig):
    url = {"url": "http://127.0.0.1:1/x", "sha256": "0" * 64}
    view = rig.coordinator.run(sh("true", input={"urls": [url]}))
    failed(view, "E_DENY", retryable=False, words=["127.0.0.1:1", "not allowed here", "not public"])


# E_NOGPU and E_NORESOURCE.


def test_no_gpu(rig):
    raw = {**sh("true", requirements={"gpu": True}), "job_id": "wants-gpu"}
    offer_failed(rig, raw, "E_NOGPU", retryable=True, words=["no GPU"])


@pytest.mark.parametrize(
    ("wants", "words"),
    [
        ({"disk_mb": 2**31}, [f"{2**31} MiB of disk", "usable", r"resources\.disk_reserve_mb"]),
        ({"memory_mb": 2**31}, [f"{2**31} MiB of memory", "the node has"]),
        ({"cpu_threads": 4096}, ["4096 CPU threads", "the node has"]),
    ],
)
def test_no_resource(rig, wants, words):
    failed(rig.coordinator.run(sh("true", requirements=wants)), "E_NORESOURCE", retryable=True, words=words)


# E_INPUT.


def input_job(url, content=b"in", **more):
    digest = hashlib.sha256(content).hexdigest()
    return printed("cat x", input={"urls": [{"url": url, "name": "x", "sha256": digest}]}, **more)


def test_input_missing(rig):
    view = rig.coordinator.run(input_job(f"{rig.coordinator.root}/files/nowhere"))
    failed(view, "E_INPUT", retryable=True, words=["'x'", "404", "run 3 of 3"])
    assert rig.node.events(view["job_id"]).count("RetryScheduled") == 2


def test_input_cut_off_is_fetched_again(rig):
    url = rig.coordinator.put_file("cut", b"in" * 50_000)
    rig.coordinator.fault("/files/cut", "cut_body", times=2)
    view = rig.coordinator.run(input_job(url, b"in" * 50_000))
    assert view["state"] == "done"
    assert rig.node.events(view["job_id"]).count("RetryScheduled") == 2
    assert rig.coordinator.artifact(view["job_id"], "out.txt") == b"in" * 50_000


def test_input_always_cut_off(rig):
    url = rig.coordinator.put_file("torn", b"in" * 1000)
    rig.coordinator.fault("/files/torn", "cut_body", times=3)
    failed(
        rig.coordinator.run(input_job(url, b"in" * 1000)),
        "E_INPUT",
        retryable=True,
        words=["'x'", "run 3 of 3"],
    )
    assert rig.coordinator.faults() == []


def test_input_of_a_wrong_hash_is_not_tried_again(rig):
    url = rig.coordinator.put_file("other", b"something else")
    view = rig.coordinator.run(input_job(url))
    right = hashlib.sha256(b"in").hexdigest()
    failed(view, "E_INPUT", retryable=False, words=["'x'", "SHA-256", right, "14 bytes"])
    assert "RetryScheduled" not in rig.node.events(view["job_id"])


# How a command ends.


def test_exit(rig):
    view = rig.coordinator.run(sh("echo all is well; echo no such model >&2; exit 7"))
    failed(view, "E_EXIT", retryable=False, words=["exit code 7", "no such model"])


def test_signal(rig):
    view = rig.coordinator.run(sh("echo going; kill -SEGV $$"))
    failed(view, "E_SIGNAL", retryable=True, words=["signal 11", "going"])


def test_timeout_of_the_job(rig):
    view = rig.coordinator.run(sh("trap '' TERM; while :; do sleep 0.1; done", timeout_s=0.3))
    failed(view, "E_TIMEOUT", retryable=False, words=["longer than 0.3 s"])


def test_timeout_of_the_rule(rig):
    rule = {"command": {"path": "/bin/sleep"}, "args": [["[0-9]+"]], "max_runtime_s": 1}
    rig.node.allow("sleep", rule)
    manifest = {"runner": "cli", "command": "sleep", "args": ["60"], "timeout_s": 600}
    failed(rig.coordinator.run(manifest), "E_TIMEOUT", retryable=False, words=["longer than 1 s"])


def test_out_of_memory(rig):
    script = "exec /usr/bin/python3 -c 'x = bytearray(b\"1\" * (300 << 20)); import time; time.sleep(60)'"
    view = rig.coordinator.run(sh(script, requirements={"memory_mb": 64}))
    failed(view, "E_OOM", retryable=False, words=["64 MiB"])


def test_artifact_over_its_own_bound(rig):
    artifacts = [{"path": "big", "type": "a/b", "max_mb": 1}]
    view = rig.coordinator.run(sh("head -c 2000000 /dev/zero > big", artifacts=artifacts))
    failed(view, "E_OUTPUT", retryable=False, words=["big", r"1\.9 MiB", "manifest allows 1 MiB"])


def test_output_over_the_rule(rig):
    script = "while :; do head -c 1000000 /dev/zero >> heap; sleep 0.02; done"
    failed(rig.coordinator.run(sh(script)), "E_OUTPUT", retryable=False, words=["MiB, more than 8 MiB"])


def test_a_log_that_grew_at_the_very_end(rig):
    # Sparse, so that no look in between sees it: a log must not take the coordinator what the bound keeps from it.
    view = rig.coordinator.run(sh("truncate -s 70M /proc/self/fd/2"))
    failed(view, "E_OUTPUT", retryable=False, words=["printed 70.0 MiB, more than 64 MiB"])


def test_who_fills_the_disk_gets_no_grace(rigs):
    rig = rigs(timeouts={"stop_grace_s": 600})
    view = rig.coordinator.run(
        sh("trap '' TERM; for n in 1 2 3; do head -c 6M /dev/zero >$n; done; sleep 600")
    )
    failed(view, "E_OUTPUT", retryable=False, words=["wrote"])


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("true", ["out", "neither in output/ nor in work/"]),
        ("ln -s /etc/passwd out", ["out", "link"]),
        ("mkfifo out", ["out", "named pipe"]),
        ("mkdir out", ["out", "folder|directory"]),
    ],
    ids=["missing", "link", "fifo", "folder"],
)
def test_artifact(rig, script, words):
    view = rig.coordinator.run(sh(script, artifacts=[{"path": "out", "type": "a/b"}]))
    failed(view, "E_ARTIFACT", retryable=False, words=words)


# E_CANCELLED.


def test_cancelled_by_heartbeat(rig):
    (job_id,) = rig.coordinator.submit(
        sh("trap 'echo asked; exit 0' TERM; echo up; while :; do sleep 0.05; done")
    )
    rig.node.await_printed(job_id, "up")
    rig.coordinator.cancel(job_id)
    failed(
        rig.coordinator.wait(job_id), "E_CANCELLED", retryable=False, words=["cancelled by the coordinator"]
    )
    assert "asked" in rig.node.exec_log(job_id).read_text()


def test_cancelled_while_it_waits_for_a_retry(rig):
    url = f"{rig.coordinator.root}/files/never"
    rig.coordinator.fault("/files/never", "delay:60", times=-1)
    (job_id,) = rig.coordinator.submit(input_job(url))
    rig.node.await_event(job_id, "PrepStarted")
    rig.coordinator.cancel(job_id)
    failed(
        rig.coordinator.wait(job_id), "E_CANCELLED", retryable=False, words=["cancelled by the coordinator"]
    )
    rig.coordinator.no_faults()


def test_cancelled_by_progress(rigs):
    rig = rigs(heartbeat={"interval_s": 3600, "backoff": {"min_s": 0.05, "max_s": 0.5}})
    (job_id,) = rig.coordinator.submit(sh("echo '42%'; sleep 60"))
    rig.node.await_printed(job_id, "42%")
    rig.coordinator.cancel(job_id)
    view = rig.coordinator.wait(job_id)
    failed(view, "E_CANCELLED", retryable=False, words=["cancelled by the coordinator"])
    assert view["progress"], "cancelled by something else than progress"


# E_LOST, E_UPLOAD, E_INTERNAL.


def test_lost_is_run_again_and_then_told(rig):
    (job_id,) = rig.coordinator.submit(sh("echo up; sleep 60"))
    for run in (1, 2, 3):
        rig.node.await_event(job_id, "Launched", run)
        rig.node.sandbox_pid(job_id, run)
        assert kill_holders(rig.node.lock_of(job_id, run))
    view = rig.coordinator.wait(job_id)
    failed(view, "E_LOST", retryable=True, words=["lost", "run 3 of 3"])
    assert rig.node.events(job_id).count("Launched") == 3


def test_lost_once_is_done_in_the_end(rig):
    (job_id,) = rig.coordinator.submit(printed("test -e /job/work/never; sleep 0.4; echo done"))
    rig.node.await_event(job_id, "Launched")
    rig.node.sandbox_pid(job_id)
    kill_holders(rig.node.lock_of(job_id))
    assert rig.coordinator.wait(job_id)["state"] == "done"
    assert rig.node.events(job_id).count("Launched") == 2
    assert rig.coordinator.artifact(job_id, "out.txt") == b"done\n"


@pytest.mark.parametrize("status", [413, 422])
def test_upload_refused(rig, status):
    rig.coordinator.fault("/jobs/result", f"status:{status}")
    view = rig.coordinator.run(printed("echo x"))
    failed(view, "E_UPLOAD", retryable=False, words=[str(status), "not taken", "scripted"])


def test_internal_says_what_the_sandbox_lacks(rigs):
    rig = rigs(start=False)
    shown = rig.folder / "shown"
    shown.mkdir()
    rig.node.configure(sandbox={"extra_ro_binds": [str(shown)]})
    rig.node.start()
    assert rig.coordinator.run(sh("true"))["state"] == "done"
    shown.rmdir()
    view = rig.coordinator.run(sh("true"))
    failed(view, "E_INTERNAL", retryable=True, words=["sandbox", str(shown)])


def test_nothing_is_left_of_any_job(rig):
    rig.node.await_idle()
    health = rig.node.health()
    assert (health["running"], health["queued"], health["uploading"]) == (0, 0, 0)
    metrics = rig.node.get("/metrics").text
    ends = sum(float(n) for n in re.findall(r"^fsm_miner_outcomes_total\{.*\} (\S+)$", metrics, re.MULTILINE))
    assert ends == len(rig.coordinator.outcomes())
    assert [lock for lock in rig.node.jobs.glob("*/control/*.lock") if holders(lock)] == []
