"""Python tasks, and secrets: they reach the job and show up nowhere else."""

import json
import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.daemon.rig import TOKEN, holders, printed, processes, sh

SECRET = "s3cr3t-d41d8cd98f"
RESULT = [{"path": "result.json", "type": "application/json", "max_mb": 1}]

TASKS = {
    "add": "def run(a, b=1):\n    print('adding')\n    return {'sum': a + b}\n",
    "fail": "def run():\n    raise KeyError('no weights for model-7')\n",
    "deep": "import tasks.add\n\ndef run(**params):\n    return tasks.add.run(**params)\n",
    "write": (
        "import os, pathlib\n"
        "def run(text):\n"
        "    pathlib.Path(os.environ['JOB_OUTPUT'], 'made.txt').write_text(text + pathlib.Path('in.txt').read_text())\n"
    ),
    "daemon": (
        "import importlib.util, os\n"
        "def run():\n"
        "    return {'token': 'MINER_AUTH' in os.environ, 'secret': os.environ.get('API_KEY', '')[:3]}\n"
    ),
}


@pytest.fixture(scope="module")
def rig(shared_rigs):
    rig = shared_rigs()
    rig.node.secrets.add(SECRET)
    for name, source in TASKS.items():
        rig.node.task(name, source)
    return rig


def task(name, params=None, **more):
    return {
        "runner": "python",
        "task": name,
        "params": params or {},
        "timeout_s": 20,
        "artifacts": RESULT,
        **more,
    }


def test_a_task_returns_its_result(rig):
    view = rig.coordinator.run(task("add", {"a": 2, "b": 40}))
    assert view["state"] == "done", view["outcomes"]
    assert json.loads(rig.coordinator.artifact(view["job_id"], "result.json")) == {"sum": 42}
    assert rig.coordinator.log_of(view["job_id"]) == "adding\n"


def test_a_task_may_import_another(rig):
    view = rig.coordinator.run(task("deep", {"a": 1}))
    assert json.loads(rig.coordinator.artifact(view["job_id"], "result.json")) == {"sum": 2}


def test_a_task_writes_files_and_reads_inputs(rig):
    manifest = task("write", {"text": "a"}, input={"inline": {"in.txt": "b"}})
    view = rig.coordinator.run({**manifest, "artifacts": [{"path": "made.txt", "type": "text/plain"}]})
    assert rig.coordinator.artifact(view["job_id"], "made.txt") == b"ab"


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        (task("fail"), ["exit code 1", "KeyError: 'no weights for model-7'"]),
        (task("add", {"c": 1}), ["exit code 2", "add: params", "'a'|'c'"]),
    ],
    ids=["raises", "params"],
)
def test_a_task_that_fails_says_why(rig, manifest, words):
    (outcome,) = rig.coordinator.run(manifest)["outcomes"]
    body = outcome["body"]
    assert (body["error_code"], body["retryable"]) == ("E_EXIT", False)
    for word in words:
        assert re.search(word, body["error_msg"]), body["error_msg"]


def test_a_venv_without_an_interpreter(rigs):
    rig = rigs(start=False)
    rig.node.task("add", TASKS["add"])
    rig.node.configure(
        runners={"python": {"task_paths": [str(rig.node.tasks)], "venv": str(rig.folder / "none")}}
    )
    rig.node.start()
    (outcome,) = rig.coordinator.run(task("add", {"a": 1}))["outcomes"]
    assert (outcome["body"]["error_code"], outcome["body"]["retryable"]) == ("E_NORESOURCE", True)
    assert re.search(r"runners\.python\.venv.*none/bin/python is not there", outcome["body"]["error_msg"])


# Secrets.


def test_a_secret_reaches_the_job_and_nothing_else(rig):
    script = 'echo "${#API_KEY} $API_KEY" | cut -c1-6; touch up; while ! test -e go; do sleep 0.02; done'
    (job_id,) = rig.coordinator.submit(printed(script, secrets={"API_KEY": SECRET}))
    rig.node.await_made(job_id, "up")
    assert holders(rig.node.lock_of(job_id)), "nothing runs"
    for command in processes(rig.node.folder).values():
        assert SECRET not in command
    # Of the environments, only those inside the sandbox hold it: outside are the daemon, `timeout` and bwrap.
    for pid in {rig.node.pid, *holders(rig.node.lock_of(job_id))}:
        for name in ("cmdline", "environ"):
            assert SECRET.encode() not in Path(f"/proc/{pid}/{name}").read_bytes(), name
    assert rig.node.leaks() == []
    (rig.node.jobs / job_id / "work" / "go").touch()
    assert rig.coordinator.wait(job_id)["state"] == "done"
    assert rig.coordinator.artifact(job_id, "out.txt").decode().strip() == f"{len(SECRET)} s3c"
    assert rig.node.leaks() == []


def test_a_secret_reaches_a_task(rig):
    view = rig.coordinator.run(task("daemon", secrets={"API_KEY": SECRET}))
    found = json.loads(rig.coordinator.artifact(view["job_id"], "result.json"))
    assert found == {"token": False, "secret": "s3c"}
    assert rig.node.leaks() == []


def test_secrets_are_gone_with_a_restart_and_the_job_is_handed_back(rigs):
    rig = rigs(resources={"max_concurrent_cpu": 1}, retries={"max_attempts": 2, "base_s": 3, "max_s": 3})
    rig.node.secrets.add(SECRET)
    url = {"url": f"{rig.coordinator.root}/files/none", "name": "x", "sha256": "0" * 64}
    (job_id,) = rig.coordinator.submit(sh("true", secrets={"API_KEY": SECRET}, input={"urls": [url]}))
    rig.node.await_event(job_id, "RetryScheduled")
    rig.node.restart()
    (outcome,) = rig.coordinator.wait(job_id)["outcomes"]
    assert (outcome["body"]["error_code"], outcome["body"]["retryable"]) == ("E_NORESOURCE", True)
    assert re.search("secrets.*restart.*hand the job out again", outcome["body"]["error_msg"])


def test_a_running_job_with_secrets_survives_a_restart(rig):
    script = "touch up; while ! test -e go; do sleep 0.02; done; echo ${#API_KEY}"
    (job_id,) = rig.coordinator.submit(printed(script, secrets={"API_KEY": SECRET}))
    rig.node.await_made(job_id, "up")
    rig.node.restart()
    rig.node.await_event(job_id, "Reattached")
    (rig.node.jobs / job_id / "work" / "go").touch()
    assert rig.coordinator.wait(job_id)["state"] == "done"
    assert rig.coordinator.artifact(job_id, "out.txt").decode().strip() == str(len(SECRET))


# The token and the status page.


def test_the_token_is_nowhere(rig):
    rig.coordinator.run(printed("env"))
    assert TOKEN.encode() not in Path(f"/proc/{rig.node.pid}/cmdline").read_bytes()
    assert rig.node.leaks() == []
    view = rig.coordinator.run(printed("env"))
    seen = rig.coordinator.artifact(view["job_id"], "out.txt").decode()
    assert {line.partition("=")[0] for line in seen.splitlines()} == {
        "PATH", "HOME", "TMPDIR", "USER", "LOGNAME", "LANG", "JOB_INPUT", "JOB_OUTPUT", "CUDA_VISIBLE_DEVICES", "PWD",
    }  # fmt: skip


def test_status_page_and_metrics(rig):
    health = rig.node.health()
    assert {"running", "queued", "cpu_load", "vram_free"} <= health.keys()
    assert (health["status"], health["trouble"]) == ("ok", [])
    answer = rig.node.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    for name in ("queue", "running", "vram_free_mb", "cpu_load", "outcomes", "events", "job_seconds"):
        assert f"fsm_miner_{name}" in families
    assert all(family.documentation for family in families.values())
    assert rig.node.get("/nowhere").status_code == 404


def test_state_json_follows_the_journal(rig):
    view = rig.coordinator.run(printed("echo x"))
    rig.node.await_event(view["job_id"], "Delivered")
    rig.node.await_idle()
    found = json.loads((rig.node.jobs / view["job_id"] / "state.json").read_text())
    assert (found["state"], found["exit_code"], found["run"]) == ("DONE", 0, 1)
    assert found["seq"] == len(rig.node.stream(view["job_id"]))


def test_the_log_has_the_fields_of_the_specification(rig):
    records = rig.node.log()
    assert all({"ts", "level", "node_id", "job_id", "event", "attrs"} <= record.keys() for record in records)
    assert {record["node_id"] for record in records} == {"node-e2e"}
