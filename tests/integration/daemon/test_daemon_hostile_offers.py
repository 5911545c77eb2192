"""Manifests of any shape: who can be told is told, nobody else notices, and no secret stays behind."""

import random

import pytest

from tests.integration.daemon.rig import printed, sh, until

SECRET = "hostile-secret-0f2d6a"


@pytest.fixture(scope="module")
def rig(shared_rigs):
    rig = shared_rigs()
    rig.node.secrets.add(SECRET)
    return rig


def deep(levels):
    value = 0
    for _ in range(levels):
        value = [value]
    return value


TOLD = {
    "no-runner": {},
    "unknown-runner": {"runner": "root"},
    "no-command": {"runner": "cli"},
    "command-list": {**sh("true"), "command": ["sh", "-c", "true"]},
    "args-text": {**sh("true"), "args": "-c true"},
    "args-numbers": {**sh("true"), "args": [1, 2]},
    "args-surrogate": {**sh("true"), "args": ["-c", "\ud800"]},
    "args-nul": {**sh("true"), "args": ["-c", "a\0b"]},
    "args-many": {**sh("true"), "args": ["x"] * 5000},
    "args-long": {**sh("true"), "args": ["-c", "x" * 300_000]},
    "timeout-huge": sh("true", timeout_s=10**400),
    "timeout-negative": sh("true", timeout_s=-1),
    "timeout-text": sh("true", timeout_s="5"),
    "timeout-bool": sh("true", timeout_s=True),
    "memory-huge": sh("true", requirements={"memory_mb": 2**70}),
    "memory-float": sh("true", requirements={"memory_mb": 1.5}),
    "requirements-list": sh("true", requirements=[]),
    "env-list": sh("true", env=["A=1"]),
    "env-name": sh("true", env={"A=B": "1"}),
    "env-deep": sh("true", env={"A": deep(300)}),
    "artifact-up": sh("true", artifacts=[{"path": "../../../etc/passwd"}]),
    "artifact-absolute": sh("true", artifacts=[{"path": "/etc/passwd"}]),
    "artifact-twice": sh("true", artifacts=[{"path": "a"}, {"path": "a"}]),
    "artifact-surrogate": sh("true", artifacts=[{"path": "\udfff"}]),
    "artifacts-many": sh("true", artifacts=[{"path": f"f{n}"} for n in range(3000)]),
    "stdout-elsewhere": sh("true", stdout="nowhere.txt"),
    "input-file": sh("true", input={"urls": ["file:///etc/shadow"]}),
    "input-name": sh("true", input={"urls": [{"url": "https://example.com/x", "name": "../x"}]}),
    "inline-name": sh("true", input={"inline": {"a/b": "x"}}),
    "inline-type": sh("true", input={"inline": {"a": {"b": "c"}}}),
    "attempt-zero": sh("true", attempt=0),
    "attempt-text": sh("true", attempt="1"),
    "attempt-huge": sh("true", attempt=2**80),
    "python-no-task": {"runner": "python"},
    "python-task-path": {"runner": "python", "task": "../../etc/passwd"},
    "python-params-list": {"runner": "python", "task": "x", "params": [1]},
    "python-params-deep": {"runner": "python", "task": "x", "params": {"a": deep(500)}},
    "secrets-list": sh("true", secrets=[SECRET]),
    "secrets-nested": sh("true", secrets={"A": {"B": SECRET}}),
    "secrets-name": sh("true", secrets={SECRET: "x"}),
    "secrets-beside-nonsense": sh("true", secrets={"API_KEY": SECRET}, timeout_s=[SECRET]),
    "secrets-and-env": sh("true", secrets={"API_KEY": SECRET}, env={"API_KEY": "x"}),
    "secrets-denied": sh("true", secrets={"NOT_HERE": SECRET}),
}

NOBODY_TO_TELL = [
    None,
    7,
    "job",
    [],
    [[]],
    {},
    {"job_id": None},
    {"job_id": 5},
    {"job_id": ""},
    {"job_id": "../../etc/cron.d/x", **sh("true")},
    {"job_id": "a/b", **sh("true")},
    {"job_id": "..", **sh("true")},
    {"job_id": ".hidden", **sh("true")},
    {"job_id": "x" * 5000, **sh("true")},
    {"job_id": "a\nb", **sh("true")},
    {"job_id": "\ud800", **sh("true")},
    {"job_id": {"$ne": 1}, "secrets": {"A": SECRET}},
    deep(400),
]


def test_who_can_be_told_is_told(rig):
    for name, raw in TOLD.items():
        rig.coordinator.offer({**raw, "job_id": name})
    for name in TOLD:
        body = rig.coordinator.outcome_of_offer(name)["body"]
        denied = name == "secrets-denied"
        assert body["error_code"] == ("E_DENY" if denied else "E_INVALID"), (name, body)
        assert body["error_msg"].strip(), name
        assert (body["retryable"], len(body["error_msg"]) <= 2000) == (False, True), (name, body)
        assert SECRET not in str(body), name
        assert not (rig.node.jobs / name / "work").exists(), name
    assert len(rig.coordinator.outcomes()) == len(TOLD)


def test_nobody_else_notices(rig):
    before = len(rig.coordinator.outcomes())
    unusable = len(rig.node.log("offer_unusable"))
    for raw in NOBODY_TO_TELL:
        rig.coordinator.offer(raw)
    view = rig.coordinator.run(printed("echo well"))
    assert view["state"] == "done"
    assert len(rig.coordinator.outcomes()) == before + 1
    assert len(rig.node.log("offer_unusable")) > unusable
    assert {path.name for path in rig.node.folder.parent.iterdir()} == {"coordinator", "node"}


@pytest.mark.parametrize(
    "body", [[], "x", 5, {"job": {"job": {}}}, {"job_jws": "a.b.c"}, {"job_jws": 5}, {"x": deep(900)}]
)
def test_answers_of_other_shapes(rig, body):
    rig.coordinator.ask("POST", "/admin/offers", {"answer": body})
    assert rig.coordinator.run(printed("echo well"))["state"] == "done"


def test_mutations_of_a_good_manifest(rig):
    rng = random.Random(7)
    good = printed(
        "echo x",
        env={"GREETING": "x"},
        secrets={"API_KEY": SECRET},
        requirements={"memory_mb": 64, "gpu": False},
        input={"inline": {"a.txt": "x"}},
    )
    values = [
        None,
        True,
        -1,
        2**65,
        1e308,
        "",
        "\ud800",
        "x" * 9000,
        [],
        {},
        [[]],
        {"": ""},
        SECRET,
        deep(60),
    ]
    names = []
    for n in range(60):
        manifest = mutated(good, rng, values)
        names.append(f"mutant-{n}")
        rig.coordinator.offer({**manifest, "job_id": names[-1]})
    for name in names:
        outcome = rig.coordinator.outcome_of_offer(name)
        if outcome["kind"] == "fail":
            assert outcome["body"]["error_code"] != "E_INTERNAL", outcome["body"]
            assert SECRET not in str(outcome["body"])
    assert rig.coordinator.run(printed("echo well"))["state"] == "done"
    until(lambda: rig.node.health()["jobs"] == [], "nothing is left")


def mutated(manifest, rng, values):
    """Return a copy with one to three places, at any depth, replaced."""
    copy = {key: dict(value) if isinstance(value, dict) else value for key, value in manifest.items()}
    for _ in range(rng.randint(1, 3)):
        key = rng.choice(list(copy))
        if isinstance(copy[key], dict) and copy[key] and rng.random() < 0.6:
            copy[key] = {**copy[key], rng.choice(list(copy[key])): rng.choice(values)}
        else:
            copy[key] = rng.choice(values)
    return copy


def test_a_file_that_a_job_names_by_its_secret(rig):
    job = sh('touch "$API_KEY"', secrets={"API_KEY": SECRET}, artifacts=[{"path": "out.bin", "type": "a/b"}])
    (outcome,) = rig.coordinator.run(job)["outcomes"]
    assert outcome["body"]["error_code"] == "E_ARTIFACT"
    assert "In work/: '[redacted]'" in outcome["body"]["error_msg"]


def test_no_secret_is_anywhere(rig):
    for path in rig.node.files():
        assert SECRET.encode() not in path.read_bytes(), path
