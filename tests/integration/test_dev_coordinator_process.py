"""The dev coordinator as a real process on loopback, spoken to by plain httpx."""

import base64
import hashlib
import json
import os
import subprocess
import sys
import threading
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
from joserfc import jws
from joserfc.errors import SecurityWarning
from joserfc.jwk import KeySet, OctKey, OKPKey

TOOLS = Path(__file__).parents[2] / "tools"
DESCRIPTOR = {"node_id": "n1", "version": "0.1.0", "runners": ["cli"]}
ECHO = {"job_id": "j1", "runner": "cli", "command": "echo", "args": ["hello"], "timeout_s": 10}


class Server:
    """One coordinator process; `kill` and `start` give it another life over the same folder."""

    def __init__(self, data, options=()):
        self.data, self.options, self.port = data, options, 0
        self.process = None
        self.start()

    def start(self):
        command = [
            sys.executable,
            TOOLS / "dev_coordinator.py",
            "--data",
            self.data,
            "--listen",
            f"127.0.0.1:{self.port}",
        ]
        self.process = subprocess.Popen(
            [*map(str, command), *self.options],
            env={"MINER_AUTH": "boot", "PATH": os.environ["PATH"]},
            stdout=subprocess.PIPE,
            text=True,
        )
        line = self.process.stdout.readline()
        assert line.startswith("listening on http://127.0.0.1:"), line
        self.url = line.split()[-1]
        self.root = self.url.removesuffix("/api/v1")
        self.port = int(self.root.rpartition(":")[2])

    def kill(self):
        self.process.kill()
        self.end()

    def end(self):
        self.process.stdout.close()
        return self.process.wait(20)

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            assert self.end() == 0


@pytest.fixture
def serve(tmp_path):
    with ExitStack() as stack:

        def start(*options):
            server = Server(tmp_path / "data", options)
            stack.callback(server.stop)
            return server

        yield start


@pytest.fixture
def client():
    with httpx.Client(timeout=20, trust_env=False) as client:
        yield client


class Node:
    """The contract from the node's side."""

    def __init__(self, server, client, node_id="n1"):
        self.server, self.client, self.node_id = server, client, node_id
        answer = client.post(
            server.url + "/nodes/register",
            json=DESCRIPTOR | {"node_id": node_id},
            headers={"Authorization": "Bearer boot"},
        )
        assert answer.status_code == 200, answer.text
        self.registered = answer.json()
        self.auth = {"Authorization": f"Bearer {self.registered['node_token']}"}

    def post(self, path, body, key=None):
        headers = self.auth | ({"Idempotency-Key": key} if key else {})
        return self.client.post(
            self.server.url + path, json={"node_id": self.node_id} | body, headers=headers
        )

    def pull(self, **more):
        return self.post("/jobs/pull", {"filters": {"runners": ["cli"], "cpu_slots": 1}} | more).json()

    def ack(self, job_id="j1", attempt=1):
        return self.post("/jobs/ack", {"job_id": job_id, "attempt": attempt}, f"{job_id}/{attempt}/ack")

    def fail(self, job_id="j1", attempt=1, code="E_EXIT", retryable=False):
        body = {
            "job_id": job_id,
            "attempt": attempt,
            "error_code": code,
            "error_msg": "it failed",
            "logs_ref": None,
        }
        return self.post("/jobs/fail", body | {"retryable": retryable}, f"{job_id}/{attempt}/fail")

    def result(self, files=(("out.txt", b"hello\n"),), job_id="j1", attempt=1, declared=None, key=None):
        declared = [describe(*file) for file in files] if declared is None else declared
        metadata = {
            "job_id": job_id,
            "node_id": self.node_id,
            "attempt": attempt,
            "exit_code": 0,
            "artifacts": declared,
        }
        parts = [("artifact", (f"artifacts/{path}", body, "text/plain")) for path, body in files]
        return self.client.post(
            self.server.url + "/jobs/result",
            data={"job_id": job_id, "metadata": json.dumps(metadata)},
            files=[*parts, ("log", ("logs/exec.log", b"ran\n", "text/plain"))],
            headers=self.auth | {"Idempotency-Key": key or f"{job_id}/{attempt}/result"},
        )


def describe(path, body, **more):
    return {
        "path": path,
        "type": "text/plain",
        "size": len(body),
        "sha256": hashlib.sha256(body).hexdigest(),
    } | more


def submit(server, client, manifest=ECHO):
    answer = client.post(server.root + "/admin/jobs", json=manifest)
    assert answer.status_code == 201, answer.text
    return answer.json()


def view(server, client, job_id="j1"):
    return client.get(f"{server.root}/admin/jobs/{job_id}").json()


def test_whole_flow_and_every_delivery_counts_once(serve, client):
    server = serve()
    node = Node(server, client)
    assert {"tus", "reconcile"} <= set(node.registered["features"])
    assert node.pull() == {"job": None}
    submit(server, client)
    assert node.pull()["job"] == ECHO | {"attempt": 1}
    assert [node.ack().status_code, node.ack().json()] == [200, {"lease_s": 30}]
    assert Node(server, client, "n2").ack().status_code == 409
    assert node.ack("nope").status_code == 404
    assert node.post("/jobs/progress", {"job_id": "j1", "pct": 40, "note": "x", "log_tail": "y"}).json() == {}
    assert [node.result().status_code for _ in range(3)] == [200, 200, 200]
    assert node.result(key="j1/1/other").status_code == 409
    assert node.fail().status_code == 409
    job = view(server, client)
    assert (job["state"], job["result_calls"], len(job["outcomes"])) == ("done", 3, 1)
    assert [(p["pct"], p["log_tail"]) for p in job["progress"]] == [(40, "y")]
    stored = server.data / "results/j1/1"
    assert (stored / "artifacts/out.txt").read_bytes() == b"hello\n"
    assert client.get(f"{server.root}/admin/jobs/j1/files/1/logs/exec.log").content == b"ran\n"
    assert list((server.data / "incoming").iterdir()) == []


@pytest.mark.parametrize(
    ("files", "declared"),
    [
        ((("a", b"x"),), [describe("a", b"y")]),
        ((("a", b"x"),), [describe("a", b"x", size=2)]),
        ((("a", b"x"),), []),
        ((), [describe("a", b"x")]),
        ((("../a", b"x"),), None),
        ((("a", b"x"), ("a/b", b"x")), None),
        ((("a", b"x"), ("a", b"x")), None),
    ],
)
def test_result_that_differs_from_its_metadata_is_refused_and_may_be_repaired(serve, client, files, declared):
    server = serve()
    node = Node(server, client)
    submit(server, client)
    node.pull()
    node.ack()
    assert node.result(files, declared=declared).status_code == 422
    assert view(server, client)["outcomes"] == []
    good = (('say "hi" é.txt', b"1"), ("deep/er", b""))
    assert node.result(good).status_code == 200
    assert [a["path"] for a in view(server, client)["artifacts"]] == ["deep/er", good[0][0]]


def test_kill_in_the_middle_changes_nothing(serve, client):
    server = serve()
    node = Node(server, client)
    submit(server, client, [ECHO, ECHO | {"job_id": "j2"}])
    node.pull()
    node.ack()
    server.kill()
    server.start()
    beat = {
        "load": [0, 0, 0],
        "free_mb": 1,
        "gpu_free": 0,
        "state": "active",
        "running": [{"job_id": "j1", "attempt": 1}],
    }
    assert node.post("/nodes/heartbeat", beat).json() == {}
    jobs = [{"job_id": name, "attempt": 1, "state": "RUNNING"} for name in ("j1", "gone")]
    assert node.post("/jobs/reconcile", {"jobs": jobs}).json() == {
        "jobs": {"j1": "continue", "gone": "abandon"}
    }
    assert node.result().status_code == 200
    server.kill()
    server.start()
    assert node.result().status_code == 200
    assert view(server, client)["result_calls"] == 2
    assert node.pull()["job"]["job_id"] == "j2"
    stored = b"".join(file.read_bytes() for file in server.data.glob("coordinator.db*"))
    assert node.registered["node_token"].encode() not in stored


def test_failures_requeue_until_no_attempt_is_left(serve, client):
    server = serve("--max-attempts", "2")
    node = Node(server, client)
    submit(server, client)
    for attempt in (1, 2):
        assert node.pull()["job"]["attempt"] == attempt
        node.ack(attempt=attempt)
        assert [node.fail(attempt=attempt, retryable=True).status_code for _ in range(2)] == [200, 200]
    job = view(server, client)
    assert (job["state"], job["fail_calls"], [o["attempt"] for o in job["outcomes"]]) == ("failed", 4, [1, 2])


def test_expired_lease_goes_to_the_next_attempt_and_the_late_outcome_is_refused(serve, client):
    server = serve("--lease-s", "0.05")
    node = Node(server, client)
    submit(server, client)
    node.pull()
    node.ack()
    assert Node(server, client, "n2").pull(wait_s=10)["job"]["attempt"] == 2
    assert node.result().status_code == 409
    assert view(server, client)["attempts"][0]["ended"] == "expired"


def test_cancel_and_drain_ride_on_answers(serve, client):
    server = serve()
    node = Node(server, client)
    submit(server, client, [ECHO, ECHO | {"job_id": "j2"}])
    node.pull()
    node.ack()
    assert client.post(server.root + "/admin/jobs/j2/cancel").json() == {"state": "cancelled"}
    assert client.post(server.root + "/admin/jobs/j1/cancel").json() == {"state": "leased"}
    client.post(server.root + "/admin/nodes/n1/drain")
    assert node.post("/jobs/progress", {"job_id": "j1", "pct": None, "note": ""}).json() == {"cancel": True}
    assert node.post("/nodes/heartbeat", {"running": []}).json() == {"cancel": ["j1"], "drain": True}
    assert node.fail(code="E_CANCELLED").status_code == 200
    assert view(server, client)["state"] == "cancelled"
    assert node.ack("j2").status_code == 410


@contextmanager
def waiting(server, client, call):
    """Run `call(client)` in a thread; the block starts when the coordinator has it waiting."""
    got = []
    with httpx.Client(timeout=60, trust_env=False) as other:
        thread = threading.Thread(target=lambda: got.append(call(other).json()))
        thread.start()
        while client.get(server.root + "/admin/stats").json()["waiting"] == 0:
            assert thread.is_alive()
        yield got
        thread.join(15)  # far less than any of the waits
        assert not thread.is_alive()


def test_long_poll_wakes_upon_submit(serve, client):
    server = serve()
    node = Node(server, client)

    def pull(other):
        return other.post(server.url + "/jobs/pull", json={"node_id": "n1", "wait_s": 50}, headers=node.auth)

    with waiting(server, client, pull) as got:
        submit(server, client)
    assert got == [{"job": ECHO | {"attempt": 1}}]


def test_wait_ends_with_the_outcome(serve, client):
    server = serve()
    node = Node(server, client)
    submit(server, client)
    node.pull()
    node.ack()
    with waiting(
        server, client, lambda other: other.get(server.root + "/admin/wait?job=j1&timeout=50")
    ) as got:
        node.result()
    assert (got[0]["over"], got[0]["state"]) == (True, "done")
    assert client.get(server.root + "/admin/wait").json() == {"over": True, "counts": {"done": 1}}


def test_sigterm_answers_who_waits(serve, client):
    server = serve()
    submit(server, client)
    with waiting(
        server, client, lambda other: other.get(server.root + "/admin/wait?job=j1&timeout=50")
    ) as got:
        client.close()
        server.stop()
    assert got[0]["over"] is False


def test_tokens(serve, client):
    server = serve("--token-ttl-s", "3600")
    wrong = client.post(
        server.url + "/nodes/register", json=DESCRIPTOR, headers={"Authorization": "Bearer no"}
    )
    assert wrong.status_code == 401
    node = Node(server, client)
    assert node.post("/jobs/pull", {"node_id": "n2"}).status_code == 403
    assert client.post(server.root + "/admin/nodes/n1/revoke").json() == {"revoked": 1}
    assert node.post("/jobs/pull", {}).status_code == 401
    assert client.post(server.url + "/jobs/pull", json={}).status_code == 401
    assert Node(server, client).pull() == {"job": None}
    assert client.get(server.root + "/admin/jobs", headers={"Origin": "http://evil"}).status_code == 403


def test_faults(serve, client):
    server = serve()
    node = Node(server, client)
    submit(server, client)

    def spoil(match, do, **more):
        answer = client.post(server.root + "/admin/faults", json={"match": match, "do": do} | more)
        assert answer.status_code == 200, answer.text

    spoil("/jobs/pull", "drop_before")
    with pytest.raises(httpx.TransportError):
        node.pull()
    spoil("/jobs/pull", "status:429;retry_after=7")
    limited = node.post("/jobs/pull", {})
    assert (limited.status_code, limited.headers["retry-after"]) == (429, "7")
    assert node.pull()["job"]["job_id"] == "j1"
    spoil("/jobs/ack", "cut_body")
    with pytest.raises(httpx.RemoteProtocolError):
        node.ack()
    spoil("/jobs/ack", "garbage")
    with pytest.raises(UnicodeDecodeError):
        node.ack().json()
    spoil("/jobs/result", "drop_after", times=2)
    for _ in range(2):
        with pytest.raises(httpx.TransportError):
            node.result()
    spoil("/jobs/result", "delay:0.01")
    assert node.result().status_code == 200
    job = view(server, client)
    assert (job["result_calls"], len(job["outcomes"]), len(job["attempts"])) == (3, 1, 1)
    assert client.get(server.root + "/admin/faults").json() == {"faults": []}
    assert client.post(server.root + "/admin/faults", json={"match": "x", "do": "explode"}).status_code == 422


@pytest.mark.parametrize("checksum", [False, True])
def test_tus_resumes_after_a_cut_and_a_kill(serve, client, checksum):
    server = serve()
    node = Node(server, client)
    submit(server, client)
    node.pull()
    node.ack()
    body = os.urandom(300_000)
    tus = node.auth | {"Tus-Resumable": "1.0.0"}
    declared = describe("big", body)
    fields = {"job_id": "j1", "path": "big", "sha256": declared["sha256"]}
    metadata = ",".join(f"{k} {base64.b64encode(v.encode()).decode()}" for k, v in fields.items())
    create = tus | {
        "Upload-Length": "300000",
        "Upload-Metadata": metadata,
        "Idempotency-Key": "j1/1/upload-0",
    }
    created = client.post(server.url + "/uploads", headers=create)
    assert created.status_code == 201
    url = created.headers["location"]
    assert client.post(server.url + "/uploads", headers=create).headers["location"] == url

    def patch(offset, chunk, good=True):
        headers = tus | {"Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"}
        digest = hashlib.sha256(chunk if good else b"").digest()
        if checksum or not good:
            headers["Upload-Checksum"] = "sha256 " + base64.b64encode(digest).decode()
        return client.patch(url, headers=headers, content=chunk)

    client.post(
        server.root + "/admin/faults", json={"match": "/uploads/", "method": "PATCH", "do": "drop_at:100000"}
    )
    with pytest.raises(httpx.TransportError):
        patch(0, body)
    offset = int(client.head(url, headers=tus).headers["upload-offset"])
    assert offset == (0 if checksum else 100_000)
    assert patch(offset, body[offset : offset + 50_000], good=False).status_code == 460
    assert patch(offset + 1, body[offset + 1 :]).status_code == 409
    assert patch(offset, body[offset : offset + 50_000]).headers["upload-offset"] == str(offset + 50_000)
    assert node.result((), declared=[declared | {"upload": url}]).status_code == 422  # not finished
    server.kill()
    server.start()
    offset = int(client.head(url, headers=tus).headers["upload-offset"])
    assert patch(offset, body[offset:]).headers["upload-offset"] == "300000"
    assert (
        client.head(url, headers=Node(server, client, "n2").auth | {"Tus-Resumable": "1.0.0"}).status_code
        == 404
    )
    assert [node.result((), declared=[declared | {"upload": url}]).status_code for _ in range(2)] == [
        200,
        200,
    ]
    assert (server.data / "results/j1/1/artifacts/big").read_bytes() == body
    assert client.options(server.url + "/uploads").headers["tus-extension"] == "creation,checksum,termination"


@pytest.mark.parametrize(("kind", "algorithm"), [(OctKey, "HS256"), (OKPKey, "EdDSA")])
@pytest.mark.filterwarnings(f"ignore::{SecurityWarning.__module__}.{SecurityWarning.__name__}")
def test_signed_manifests_verify(serve, client, tmp_path, kind, algorithm):
    key = kind.generate_key(256 if kind is OctKey else "Ed25519", {"kid": "k1"})
    (tmp_path / "key.json").write_text(json.dumps(key.as_dict(private=True)))
    server = serve("--sign-key", str(tmp_path / "key.json"))
    node = Node(server, client)
    public = node.registered.get("jwks")
    assert (public is None) == (kind is OctKey)
    keys = KeySet([key]) if public is None else KeySet.import_key_set(public)
    submit(server, client)
    token = jws.deserialize_compact(node.pull()["job_jws"], keys, algorithms=[algorithm])
    assert json.loads(token.payload) == ECHO | {"attempt": 1}
    assert public is None or "d" not in public["keys"][0]


def test_raw_offers_and_files_and_optional_endpoints(serve, client):
    server = serve("--without", "reconcile,register")
    assert client.post(server.url + "/nodes/register", json=DESCRIPTOR).status_code == 404
    auth = {"Authorization": "Bearer boot"}
    for offer in (
        {"raw": [1, {"x": None}]},
        {"answer": "none"},
        {"raw": {"job_id": "../evil", "attempt": 1}},
    ):
        assert client.post(server.root + "/admin/offers", json=offer).status_code == 201
    pulls = [
        client.post(server.url + "/jobs/pull", json={"node_id": "n"}, headers=auth).json() for _ in range(4)
    ]
    assert pulls == [
        {"job": [1, {"x": None}]},
        "none",
        {"job": {"job_id": "../evil", "attempt": 1}},
        {"job": None},
    ]
    ack = client.post(server.url + "/jobs/ack?job_id=../evil&node_id=n", headers=auth)
    assert (ack.status_code, ack.json()) == (200, {})
    body = {
        "job_id": "../evil",
        "node_id": "n",
        "attempt": 1,
        "error_code": "E_INVALID",
        "error_msg": "m",
        "retryable": False,
    }
    key = {"Idempotency-Key": "../evil/1/fail"}
    assert client.post(server.url + "/jobs/fail", json=body, headers=auth | key).status_code == 200
    outcome = client.get(server.root + "/admin/outcomes").json()["outcomes"][0]
    assert (outcome["job_id"], outcome["body"]["error_code"]) == ("../evil", "E_INVALID")
    put = client.put(server.root + "/files/in/a.txt", content=b"0123456789")
    got = client.get(put.json()["url"], headers={"Range": "bytes=2-4"})
    assert (got.status_code, got.content) == (206, b"234")
    assert client.get(server.root + "/files/..%2fcoordinator.db").status_code == 422


def test_secrets_stay_in_memory(serve, client):
    server = serve()
    node = Node(server, client)
    submit(server, client, ECHO | {"secrets": {"KEY": "hunter22"}})
    submit(server, client, ECHO | {"job_id": "j2", "secrets": {"KEY": "hunter22"}})
    assert node.pull()["job"]["secrets"] == {"KEY": "hunter22"}
    assert all(b"hunter22" not in file.read_bytes() for file in server.data.rglob("*") if file.is_file())
    server.kill()
    server.start()
    assert "secrets" in view(server, client, "j2")["reason"]
    assert view(server, client, "j2")["state"] == "failed"


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--listen", "0.0.0.0:0"], "loopback"),
        (["--token-env", "NOT_SET"], "NOT_SET"),
        (["--without", "x"], "optional"),
    ],
)
def test_wrong_usage_is_refused(tmp_path, options, word):
    command = [sys.executable, str(TOOLS / "dev_coordinator.py"), "--data", str(tmp_path), *options]
    done = subprocess.run(
        command, env={"MINER_AUTH": "x", "COLUMNS": "300"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert word in done.stderr
