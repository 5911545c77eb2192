"""tools/submit.py against the real dev coordinator, with a node played by plain httpx."""

import hashlib
import importlib
import json
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

TOOLS = Path(__file__).parents[2] / "tools"
ENV = {"MINER_AUTH": "boot", "PATH": os.environ["PATH"], "COLUMNS": "200"}


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    data = tmp_path_factory.mktemp("coordinator")
    command = [sys.executable, TOOLS / "dev_coordinator.py", "--data", data, "--listen", "127.0.0.1:0"]
    process = subprocess.Popen([*map(str, command)], env=ENV, stdout=subprocess.PIPE, text=True)
    yield process.stdout.readline().split()[-1]
    process.terminate()
    process.stdout.close()
    assert process.wait(20) == 0


def submit(url, *arguments, stdin=None):
    command = [sys.executable, TOOLS / "submit.py", "--url", url, *arguments]
    return subprocess.run(
        [*map(str, command)], env=ENV, input=stdin, capture_output=True, text=True, timeout=60, check=False
    )


def take(client, url, headers):
    while (job := client.post(url + "/jobs/pull", json={"wait_s": 5}, headers=headers).json()["job"]) is None:
        pass
    key = f"{job['job_id']}/{job['attempt']}"
    ids = {"job_id": job["job_id"], "attempt": job["attempt"], "node_id": "n"}
    assert client.post(
        url + "/jobs/ack", json=ids, headers=headers | {"Idempotency-Key": key + "/ack"}
    ).is_success
    note = {"job_id": job["job_id"], "pct": 50, "note": "half\x1b[2Jway"}
    assert client.post(url + "/jobs/progress", json=note, headers=headers).is_success
    return job, ids, headers | {"Idempotency-Key": key + "/end"}


@contextmanager
def one_job_done(url, *, well):
    """Play a node that takes one job while the block runs."""
    with httpx.Client(timeout=30, trust_env=False) as client:
        boot = {"Authorization": "Bearer boot"}
        token = client.post(url + "/nodes/register", json={"node_id": "n"}, headers=boot).json()["node_token"]

        def work():
            job, ids, headers = take(client, url, {"Authorization": f"Bearer {token}"})
            if not well:
                body = ids | {
                    "error_code": "E_DENY",
                    "error_msg": "not here",
                    "logs_ref": None,
                    "retryable": False,
                }
                client.post(url + "/jobs/fail", json=body, headers=headers).raise_for_status()
                return
            got = b"hello\n"
            for entry in job.get("input", {}).get("urls", []):
                got = client.get(entry["url"]).content
                assert hashlib.sha256(got).hexdigest() == entry["sha256"]
            declared = {"path": job["artifacts"][0]["path"], "type": "text/plain", "size": len(got)}
            metadata = ids | {"artifacts": [declared | {"sha256": hashlib.sha256(got).hexdigest()}]}
            client.post(
                url + "/jobs/result",
                data={"job_id": job["job_id"], "metadata": json.dumps(metadata)},
                files=[("artifact", (f"artifacts/{declared['path']}", got))],
                headers=headers,
            ).raise_for_status()

        thread = threading.Thread(target=work)
        thread.start()
        yield
        thread.join(30)
        assert not thread.is_alive()


def test_run_waits_and_saves_what_came(url, tmp_path):
    with one_job_done(url, well=True):
        done = submit(url, "run", "--out", tmp_path / "out", "--", "echo", "hello")
    assert (done.returncode, (tmp_path / "out/output.txt").read_bytes()) == (0, b"hello\n")
    assert "output.txt  6 bytes" in done.stdout
    assert "half·[2Jway" in done.stderr


def test_input_travels_with_its_hash(url, tmp_path):
    (tmp_path / "in.bin").write_bytes(b"\x00\x01" * 1000)
    with one_job_done(url, well=True):
        options = [
            "--input",
            tmp_path / "in.bin",
            "--artifact",
            "copy/it:a/b:3",
            "--out",
            tmp_path / "out",
            "--json",
        ]
        done = submit(url, "run", *options, "--", "cp", "in.bin", "copy/it")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["manifest"]["artifacts"] == [
        {"path": "copy/it", "type": "a/b", "max_mb": 3}
    ]
    assert (tmp_path / "out/copy/it").read_bytes() == b"\x00\x01" * 1000


def test_failure_has_its_reason_and_status(url):
    with one_job_done(url, well=False):
        done = submit(url, "-", "--wait", stdin=json.dumps({"runner": "cli", "command": "rm"}))
    assert done.returncode == 1
    assert "E_DENY: not here" in done.stdout


def test_who_waits_is_told_when_no_node_fits(url):
    node = {"node_id": "n", "runners": ["cli"], "gpu": [], "tags": []}
    with httpx.Client(timeout=30, trust_env=False, headers={"Authorization": "Bearer boot"}) as client:
        client.post(url + "/nodes/register", json=node).raise_for_status()
    command = [
        sys.executable,
        TOOLS / "submit.py",
        "--url",
        url,
        "run",
        "--wait",
        "--gpu",
        "--",
        "echo",
        "hi",
    ]
    with subprocess.Popen([*map(str, command)], env=ENV, stderr=subprocess.PIPE, text=True) as waiting:
        said = waiting.stderr.readline()
        assert submit(url, "cancel", said.partition(":")[0]).returncode == 0
        assert waiting.wait(30) == 1
        assert waiting.stderr.read() == ""  # told once
    assert said.endswith(": queued: no node fits: n has no GPU\n")


NODES = [
    {"node_id": "a", "descriptor": {"runners": ["cli"], "gpu": [{"vram_mb": 8000}], "tags": ["debian"]}},
    {"node_id": "b", "descriptor": {"runners": ["python"], "gpu": [], "tags": ["fast"]}},
]


@pytest.mark.parametrize(
    ("wants", "nodes", "said"),
    [
        ({}, [], "no node has registered"),
        ({}, NODES, None),
        ({"gpu": True, "vram_mb": 8000}, NODES, None),
        ({"vram_mb": 9000}, NODES, "a has no GPU with 9000 MiB (the largest has 8000); b runs no cli jobs"),
        ({"tags": ["fast"]}, NODES, "a lacks the tag fast; b runs no cli jobs"),
        ({"gpu": True}, [{"node_id": "old", "descriptor": None}], None),
        ({"gpu": True}, NODES[1:] * 5, f"{'; '.join(['b runs no cli jobs'] * 3)}; 2 more"),
    ],
)
def test_what_each_node_lacks(monkeypatch, wants, nodes, said):
    monkeypatch.syspath_prepend(TOOLS)
    found = importlib.import_module("submit_waits").why_no_node(
        {"runner": "cli", "requirements": wants}, nodes
    )
    assert found == (said if said is None or not nodes else f"no node fits: {said}")


def test_list_show_cancel(url, tmp_path):
    manifest = tmp_path / "job.json"
    manifest.write_text(json.dumps({"job_id": "mine", "runner": "python", "task": "t"}))
    assert submit(url, manifest).stdout == "mine\n"
    assert submit(url, manifest).returncode == 2
    task = submit(url, "run", "--task", "t", "--param", "n=3", "--param", "s=x", "--gpu", "--json")
    job = json.loads(submit(url, "show", json.loads(task.stdout)["job_id"], "--json").stdout)
    assert (job["manifest"]["params"], job["gpu"]) == ({"n": 3, "s": "x"}, 1)
    assert "mine" in submit(url, "list").stdout
    assert submit(url, "cancel", "mine").stdout == "mine: cancelled\n"
    assert submit(url, "cancel", job["job_id"]).returncode == 0
    assert [j["job_id"] for j in json.loads(submit(url, "list", "--json", "--state", "queued").stdout)] == []


@pytest.mark.parametrize(
    ("arguments", "status"),
    [(["run"], 2), (["run", "--task", "t", "--param", "x"], 2), (["nowhere.json"], 2), (["show", "nope"], 2)],
)
def test_wrong_usage(url, arguments, status):
    assert submit(url, *arguments).returncode == status


def test_unreachable():
    done = submit("http://127.0.0.1:1/api/v1", "list")
    assert (done.returncode, "not reachable" in done.stderr) == (3, True)


def test_a_file_in_the_place_of_the_results_folder_is_seen_before_anything_is_submitted(tmp_path):
    (tmp_path / "taken").write_text("a file")
    done = subprocess.run(
        [sys.executable, TOOLS / "submit.py", "run", "--out", tmp_path / "taken", "--", "echo"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "MINER_AUTH": "t", "TERM": "dumb"},
    )
    assert done.returncode == 2
    assert "'--out'" in done.stderr  # the path itself is cut into pieces by the frame
    assert "Traceback" not in done.stderr
