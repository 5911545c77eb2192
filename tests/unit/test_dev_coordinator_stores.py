"""The dev coordinator's stores, with a clock of the test's own."""

import asyncio
import base64
import hashlib
import importlib
import json
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

TOOLS = Path(__file__).parents[2] / "tools"


class Kit:
    """The modules of tools/, which is no package, and stores over one database."""

    def __init__(self, folder):
        for name in ("checks", "db", "faults", "filters", "nodes", "queue", "uploads"):
            setattr(self, name, importlib.import_module(f"coordinator_{name}"))
        self.now = 1000.0
        self.folder = folder

    def open(self, **policy):
        self.connection = self.db.connect(self.folder / "c.db")
        policy = self.queue.Policy(**policy)
        return self.queue.JobQueue(self.connection, policy, clock=lambda: self.now)

    def offer(self, queue, node="n", **filters):
        job = queue.offer(node, self.filters.Filters.parse(filters))
        return None if job is None else job["job_id"]

    def state(self, job_id):
        row = self.connection.execute(
            "SELECT state, attempt FROM jobs WHERE job_id = ?", (job_id,)
        ).fetchone()
        return tuple(row)


@pytest.fixture
def kit(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    kit = Kit(tmp_path)
    kit.connection = None
    yield kit
    if kit.connection is not None:
        kit.connection.close()


def job(job_id, **more):
    return {"job_id": job_id, "runner": "cli"} | more


@pytest.mark.parametrize(
    ("manifest", "filters", "fits"),
    [
        ({}, {}, True),
        ({}, {"runners": ["python"]}, False),
        ({}, {"runners": []}, False),
        ({}, {"cpu_slots": 0, "gpus": [{"vram_free_mb": 9}]}, False),
        ({"queue": "latency"}, {"queues": ["throughput"]}, False),
        ({"queue": "latency"}, {"queues": ["latency"]}, True),
        ({}, {"queues": ["latency"]}, True),
        ({"requirements": {"gpu": True}}, {"gpus": []}, False),
        ({"requirements": {"gpu": True}}, {"gpus": [{"vram_free_mb": 0}], "cpu_slots": 0}, True),
        (
            {"requirements": {"gpu": True, "vram_mb": 10}},
            {"gpus": [{"vram_free_mb": 9}, {"vram_free_mb": 8}]},
            False,
        ),
        (
            {"requirements": {"gpu": True, "vram_mb": 10}},
            {"gpus": [{"vram_free_mb": 1}, {"vram_free_mb": 10}]},
            True,
        ),
        ({"requirements": {"tags": ["cuda"]}}, {"tags": ["debian"]}, False),
        ({"requirements": {"tags": ["cuda"]}}, {"tags": ["debian", "cuda"]}, True),
    ],
)
def test_filters(kit, manifest, filters, fits):
    queue = kit.open()
    queue.submit([job("a", **manifest)])
    assert (kit.offer(queue, **filters) is not None) is fits


def test_highest_priority_first_then_the_oldest(kit):
    queue = kit.open()
    queue.submit([job("a"), job("b", priority=5), job("c", priority=5), job("d", priority=-1)])
    assert [kit.offer(queue) for _ in range(5)] == ["b", "c", "a", "d", None]


def test_submitting_is_all_or_none(kit):
    queue = kit.open()
    with pytest.raises(kit.checks.Refusal):
        queue.submit([job("a"), job("../b")])
    assert kit.offer(queue) is None


def test_unacknowledged_offer_goes_back_with_the_same_attempt(kit):
    queue = kit.open(offer_s=10)
    queue.submit([job("a")])
    kit.offer(queue)
    kit.now += 9.9
    assert queue.sweep() == 0
    kit.now += 0.1
    assert queue.sweep() == 1
    assert kit.state("a") == ("queued", 1)


def test_heartbeats_and_progress_keep_a_lease(kit):
    queue = kit.open(lease_s=30, attempts_max=2)
    queue.submit([job("a")])
    kit.offer(queue)
    queue.ack("a", "n", 1)
    for keep in (lambda: queue.renew("n", [("a", 1)]), lambda: queue.progress("a", "n", None, "", None)):
        kit.now += 29
        keep()
        assert queue.sweep() == 0
    queue.renew("other", [("a", 1)])
    queue.renew("n", [("a", 2)])
    kit.now += 30
    assert queue.sweep() == 1
    assert kit.state("a") == ("queued", 2)
    kit.offer(queue)
    queue.ack("a", "n", 2)
    kit.now += 30
    queue.sweep()
    assert kit.state("a") == ("failed", 2)


@given(
    steps=st.lists(st.sampled_from(["offer", "ack", "result", "fail", "late", "time", "cancel"]), max_size=25)
)
def test_no_history_gives_an_attempt_two_outcomes(steps):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(TOOLS))
        kit = Kit(None)
    with closing(kit.db.connect(":memory:")) as kit.connection:
        queue = kit.queue.JobQueue(kit.connection, kit.queue.Policy(attempts_max=3), clock=lambda: kit.now)
        queue.submit([job("a")])
        body = {"error_code": "E_LOST", "retryable": True}
        for step in steps:
            attempt = kit.state("a")[1]
            calls = {
                "offer": lambda: kit.offer(queue),
                "ack": lambda n=attempt: queue.ack("a", "n", n),
                "result": lambda n=attempt: queue.result("a", "n", n, f"a/{n}/r", "{}", ()),
                "fail": lambda n=attempt: queue.fail("a", "n", n, f"a/{n}/f", body),
                "late": lambda: queue.fail("a", "n", 1, "a/1/f", body),
                "cancel": lambda: queue.cancel("a"),
                "time": queue.sweep,
            }
            kit.now += 31 if step == "time" else 0
            try:
                calls[step]()
            except kit.checks.Refusal as refusal:
                assert refusal.status in {404, 409, 410}  # noqa: PT017 (refusing is allowed, not required)
        rows = kit.connection.execute("SELECT attempt, kind FROM outcomes ORDER BY id").fetchall()
        assert len({row["attempt"] for row in rows}) == len(rows) <= 3
        state, attempt = kit.state("a")
        assert attempt <= 3
        assert ("result" in {row["kind"] for row in rows}) == (state == "done")


@given(path=st.text(st.sampled_from("ab./\\\x00é"), max_size=12))
def test_a_safe_path_never_leaves_its_folder(path):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(TOOLS))
        checks = Kit(None).checks
    root = Path("/root/of/it")
    try:
        safe = root / checks.safe_path(path)
    except checks.Refusal:
        return
    assert safe == Path(safe.as_posix())
    assert ".." not in safe.parts
    assert safe.is_relative_to(root)
    assert safe != root


def test_node_tokens_expire_survive_a_restart_and_are_kept_hashed(kit):
    kit.open()
    nodes = kit.nodes.Nodes(kit.connection, "boot", token_ttl_s=10, clock=lambda: kit.now)
    token, _ = nodes.register({"node_id": "n"})
    again = kit.nodes.Nodes(kit.connection, "boot", clock=lambda: kit.now)
    assert again.node_of(token) == "n"
    assert token not in "\n".join(kit.connection.iterdump())
    kit.now += 10
    assert (nodes.node_of(token), again.node_of(token)) == (None, None)


async def chunks(*pieces, cut=False):
    for piece in pieces:
        yield piece
    if cut:
        raise ConnectionResetError


@pytest.mark.parametrize("checked", [False, True])
def test_upload_keeps_what_it_promised(kit, checked):
    kit.open()
    uploads = kit.uploads.Uploads(kit.connection, kit.folder, 100)
    body = b"0123456789"
    metadata = {"job_id": "j", "path": "p", "sha256": hashlib.sha256(body).hexdigest()}
    upload = uploads.create("n", 10, metadata, "k")
    assert uploads.create("n", 10, metadata, "k") == upload

    def patch(offset, *pieces, cut=False):
        digest = base64.b64encode(hashlib.sha256(b"".join(pieces)).digest()).decode()
        return asyncio.run(
            uploads.patch(
                upload, "n", offset, f"sha256 {digest}" if checked else None, chunks(*pieces, cut=cut)
            )
        )

    with pytest.raises(ConnectionResetError):
        patch(0, b"012", b"34", cut=True)
    offset = uploads.get(upload, "n")["offset"]
    assert offset == (0 if checked else 5)
    with pytest.raises(kit.checks.Refusal, match="declared"):
        patch(offset, b"x" * 11)
    with pytest.raises(kit.checks.Refusal, match="not finished"):
        uploads.claim(f"http://h/{upload}", "n", "j", "p")
    assert patch(offset, body[offset:]) == 10
    path, size = uploads.claim(f"http://h/{upload}", "n", "j", "p")
    assert (path.read_bytes(), size) == (body, 10)


@pytest.mark.parametrize("do", ["", "status", "status:99", "drop_after:3", "delay:x", "garbage;x=1", "boom"])
def test_a_fault_that_is_none_is_refused(kit, do):
    with pytest.raises(kit.checks.Refusal):
        kit.faults.parse_fault({"match": "/", "do": do})


def test_faults_count(kit):
    fault = kit.faults.parse_fault(
        {"match": "/jobs", "do": "drop_before", "skip": 1, "times": 1, "method": "post"}
    )
    calls = [
        ("GET", "/jobs"),
        ("POST", "/nodes"),
        ("POST", "/jobs"),
        ("POST", "/jobs/ack"),
        ("POST", "/jobs"),
    ]
    assert [fault.takes(*call) for call in calls] == [False, False, False, True, False]


def test_a_database_of_another_version_is_refused(kit):
    kit.open()
    kit.connection.execute("PRAGMA user_version = 99")
    with pytest.raises(RuntimeError, match="another version"):
        kit.db.connect(kit.folder / "c.db")


def test_secrets_of_a_requeued_job_go_out_again_but_never_to_the_database(kit):
    queue = kit.open()
    queue.submit([job("a", secrets={"K": "v4lue"})])
    for attempt in (1, 2):
        assert queue.offer("n", kit.filters.Filters())["secrets"] == {"K": "v4lue"}
        queue.ack("a", "n", attempt)
        queue.fail("a", "n", attempt, "k", {"error_code": "E_LOST", "retryable": True})
    dump = json.dumps(list(kit.connection.iterdump()))
    assert "v4lue" not in dump
