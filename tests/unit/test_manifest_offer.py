"""Manifests: what is accepted, what is refused, and how it is said."""

import json

import pytest

from fsm_miner.manifest import JOURNAL_BYTES_MAX, Manifest, parse_offer
from states.codes import ErrorCode

SECTION_16 = {
    "job_id": "j-local-1",
    "runner": "cli",
    "requirements": {"gpu": False},
    "timeout_s": 120,
    "command": "echo",
    "args": ["hello", "world"],
    "artifacts": [{"path": "output.txt", "type": "text/plain", "max_mb": 1}],
}
SECTION_8 = {
    "job_id": "j-20250926-001",
    "runner": "cli",
    "requirements": {"gpu": True, "vram_mb": 12000, "cpu_threads": 4},
    "timeout_s": 3600,
    "input": {"urls": ["https://files.example/in/input1"], "inline": {"text": "hello"}},
    "command": "ffmpeg",
    "args": ["-y", "-i", "input1.mp4", "-c:v", "libx264", "output.mp4"],
    "artifacts": [{"path": "output.mp4", "type": "video/mp4", "max_mb": 5000}],
}


def manifest(**changes):
    offer = parse_offer({**SECTION_16, **changes})
    assert offer.manifest is not None, offer.problem
    return offer.manifest


def problem(**changes):
    offer = parse_offer({**SECTION_16, **changes})
    assert offer.problem is not None, offer.manifest
    assert offer.manifest is None
    return offer.problem


@pytest.mark.parametrize("raw", [SECTION_16, SECTION_8])
def test_the_specifications_examples_are_valid_and_survive_the_journal(raw):
    offer = parse_offer(raw)

    assert offer.problem is None
    assert offer.job_id == raw["job_id"]
    assert offer.attempt == 1
    stored = json.loads(json.dumps(offer.journal_form))
    assert Manifest.from_journal(stored) == offer.manifest


def test_section_8_in_full():
    got = parse_offer(SECTION_8).manifest

    assert got is not None
    assert got.requirements.gpu
    assert (got.requirements.vram_mb, got.requirements.cpu_threads, got.requirements.memory_mb) == (
        12000,
        4,
        None,
    )
    assert [(item.name, item.url) for item in got.input.urls] == [
        ("input1", "https://files.example/in/input1")
    ]
    assert got.input.inline == {"text": "hello"}
    assert got.artifacts[0].max_bytes == 5000 * 1024 * 1024


def test_defaults_and_unknown_fields():
    got = manifest(
        timeout_s=None, requirements=None, artifacts=None, colour="red", secret_names=["LD_PRELOAD"]
    )

    assert got.timeout_s == 3600
    assert (got.queue, got.priority, got.args) == ("throughput", 0, ("hello", "world"))
    assert got.secret_names == ()
    assert not got.requirements.gpu


def test_video_memory_asks_for_a_gpu_unless_it_is_denied():
    assert manifest(requirements={"vram_mb": 100}).requirements.gpu
    assert not manifest(requirements={"vram_mb": 100, "gpu": False}).requirements.gpu


def test_a_python_job():
    got = manifest(runner="python", command=None, task="example", params={"n": [1, None, {"x": 1.5}]})

    assert got.task == "example"
    assert got.params == {"n": [1, None, {"x": 1.5}]}


@pytest.mark.parametrize(
    ("job_id", "usable"),
    [
        ("j-1", True),
        ("A.b_c-9", True),
        ("a" * 128, True),
        ("a" * 129, False),
        ("a" * 5000, False),
        ("", False),
        (".hidden", False),
        ("-x", False),
        ("a/b", False),
        ("../x", False),
        ("a\n", False),
        ("a\0", False),
        ("jöb", False),
        ("\ud800", False),
        (5, False),
        (True, False),
        (None, False),
        (["a"], False),
    ],
)
def test_only_a_usable_id_is_kept(job_id, usable):
    offer = parse_offer({**SECTION_16, "job_id": job_id})

    assert (offer.job_id is not None) == usable
    assert (offer.problem is None) == usable
    if not usable:
        assert offer.problem is not None
        assert offer.problem.message.startswith("job_id: ")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"runner": "docker"}, "runner: must be 'cli' or 'python'"),
        ({"runner": None}, "runner: is missing"),
        ({"command": None}, 'needs the field "command"'),
        ({"command": ""}, "command: must not be empty"),
        ({"command": "x" * 256}, "command: must be no longer than 255"),
        ({"runner": "python"}, 'needs the field "task"'),
        ({"runner": "python", "task": "../x"}, "task: is not a module's name"),
        ({"runner": "python", "task": "x\n"}, "task: is not a module's name"),
        ({"attempt": 0}, "attempt: must be at least 1"),
        ({"attempt": True}, "attempt: must be a whole number"),
        ({"attempt": "2"}, "attempt: "),
        ({"attempt": 1_000_001}, "attempt: must be at most 1000000"),
        ({"attempt": 10**5000}, "attempt: "),
        ({"timeout_s": 0}, "timeout_s: must be greater than 0"),
        ({"timeout_s": "5"}, "timeout_s: must be a number"),
        ({"timeout_s": True}, "timeout_s: "),
        ({"timeout_s": float("nan")}, "timeout_s: must be a finite number"),
        ({"timeout_s": float("inf")}, "timeout_s: "),
        ({"timeout_s": 10**400}, "timeout_s: "),
        ({"timeout_s": 30 * 86400 + 1}, "timeout_s: "),
        ({"requirements": {"gpu": 1}}, "requirements.gpu: must be true or false"),
        ({"requirements": {"vram_mb": -1}}, "requirements.vram_mb: "),
        ({"requirements": {"cpu_threads": 0}}, "requirements.cpu_threads: "),
        ({"requirements": {"memory_mb": 1.5}}, "requirements.memory_mb: must be a whole number"),
        ({"requirements": []}, "requirements: must be an object of names and values"),
        ({"args": "hello"}, "args: must be a list"),
        ({"args": [1]}, "args[0]: must be a text"),
        ({"args": ["a\0b"]}, "args[0]: contains a NUL"),
        ({"args": ["\ud800"]}, "args[0]: contains half of a surrogate pair"),
        ({"args": ["x"] * 1025}, "args: "),
        ({"args": ["x" * 70_000] * 2}, "args: holds more than 131072 bytes"),
        ({"env": ["A=1"]}, "env: "),
        ({"env": {"A": 1}}, "env.A: "),
        ({"env": {"A": None}}, "env.A: "),
        ({"env": {"A": "\0"}}, "env.A: contains a NUL"),
        ({"env": {"A=B": "x"}}, "env['A=B']: has a name"),
        ({"env": {"A\n": "x"}}, "has a name"),
        ({"env": {"A": "x" * 140_000}}, "env: holds more than"),
        ({"secrets": {"A": 1}}, "secrets: A is not a text"),
        ({"secrets": {"A B": "x"}}, "secrets: has a name"),
        ({"secrets": ["A"]}, "secrets: is not an object"),
        ({"secrets": {"A": "x"}, "env": {"A": "y"}}, "both env and secrets"),
        ({"input": {"assets": [{"uri": "x"}]}}, "assets are not supported by this version"),
        ({"input": {"inline": {"a/b": "x"}}}, "input.inline['a/b']: contains a slash"),
        ({"input": {"inline": {"..": "x"}}}, "must not be or contain"),
        ({"input": {"inline": {"-rf": "x"}}}, "begins with a dash"),
        ({"input": {"inline": {"a\u202eb": "x"}}}, "unprintable"),
        ({"input": {"inline": {"a": {"x": 1}}}}, "input.inline.a: "),
        ({"input": {"urls": "https://x/y"}}, "input.urls: "),
        ({"input": {"urls": [5]}}, "input.urls[0].url: "),
        ({"input": {"urls": ["file:///etc/passwd"]}}, "is not a URL with a host"),
        ({"input": {"urls": ["ftp://x/y"]}}, "neither https:// nor http://"),
        ({"input": {"urls": ["https:///y"]}}, "is not a URL with a host"),
        ({"input": {"urls": ["https://x:99999/y"]}}, "is not a URL with a host"),
        ({"input": {"urls": ["https://[::1/y"]}}, "is not a URL with a host"),
        ({"input": {"urls": ["https://u:p@x/y"]}}, "must not carry credentials"),
        ({"input": {"urls": ["https://x/a b"]}}, "percent-encode"),
        ({"input": {"urls": ["https://x/a\r\nHost: y"]}}, "percent-encode"),
        ({"input": {"urls": ["https://x/" + "a" * 9000]}}, "longer than 8192"),
        ({"input": {"urls": [{"url": "https://x/y", "sha256": "abc"}]}}, "input.urls[0].sha256: "),
        ({"input": {"urls": [{"url": "https://x/y", "name": "../y"}]}}, "input.urls[0].name: "),
        ({"input": {"urls": ["https://x/a", "https://y/a"]}}, "same file name"),
        ({"input": {"urls": ["https://x/a"], "inline": {"a": "x"}}}, "same file name"),
        ({"input": {"urls": ["https://x/a"] * 257}}, "more than 256"),
        ({"network": {"allow": ["host"]}}, 'network.allow[0]: is not "host:port"'),
        ({"network": {"allow": "host:1"}}, "network.allow: "),
        ({"stdout": "other.txt"}, "stdout names no declared artifact"),
        ({"stdout": "/etc/passwd"}, "stdout: must be relative"),
        ({"artifacts": [{}]}, "artifacts[0].path: is missing"),
        ({"artifacts": [{"path": "/a"}]}, "artifacts[0].path: must be relative"),
        ({"artifacts": [{"path": "a/../b"}]}, "artifacts[0].path: must not"),
        ({"artifacts": [{"path": "a//b"}]}, "artifacts[0].path: is an empty name"),
        ({"artifacts": [{"path": "a/"}]}, "artifacts[0].path: is an empty name"),
        ({"artifacts": [{"path": ""}]}, "artifacts[0].path: is an empty name"),
        ({"artifacts": [{"path": "a\\b"}]}, "backslash"),
        ({"artifacts": [{"path": "a\nb"}]}, "unprintable"),
        ({"artifacts": [{"path": "\ud800"}]}, "unprintable"),
        ({"artifacts": [{"path": "é" * 128}]}, "longer than 255 bytes"),
        ({"artifacts": [{"path": "/".join("a" * 17)}]}, "deeper than 16"),
        ({"artifacts": [{"path": "a"}, {"path": "a"}]}, "artifacts: two artifacts have the same path"),
        ({"artifacts": [{"path": "a/b"}, {"path": "a"}]}, "a folder of another's"),
        (
            {"artifacts": [{"path": "a", "type": "text/plain\r\nX: y"}]},
            "artifacts[0].type: is not a media type",
        ),
        ({"artifacts": [{"path": "a", "max_mb": 0}]}, "artifacts[0].max_mb: "),
        ({"artifacts": [{"path": "a", "optional": "yes"}]}, "artifacts[0].optional: "),
        ({"queue": "fast"}, "queue: "),
        ({"priority": 1.5}, "priority: "),
        ({"params": [1]}, "params: "),
        ({"params": {"x": 10**30}}, "params: has an integer beyond 64 bits"),
        ({"params": {"x": float("nan")}}, "params: has a number that is not finite"),
        ({"params": {"x": "\ud800"}}, "params: contains half of a surrogate pair"),
        ({"params": {"\ud800": 1}}, "params: "),
        ({"params": {"x": [[[[]]] * 5] * 40_000}}, "params: holds more than"),
    ],
)
def test_an_invalid_manifest_names_the_field_and_what_is_wrong(changes, said):
    failure = problem(**changes)

    assert failure.code is ErrorCode.INVALID
    assert said in failure.message
    for of_a_library in (
        "Input should",
        "Value error",
        "tuple",
        "dictionary",
        "integer,",
        "what it should be",
    ):
        assert of_a_library not in failure.message
    assert len(failure.message) <= 500
    assert not failure.retryable


def test_a_depth_bomb_is_refused():
    bomb = []
    for _ in range(100_000):
        bomb = [bomb]

    assert "nested deeper" in problem(params={"x": bomb}).message
    assert problem(args=bomb).code is ErrorCode.INVALID
    assert manifest(unknown=bomb) == manifest()


@pytest.mark.parametrize("raw", [None, 5, "job", [], [SECTION_16], True, 1.5])
def test_a_job_that_is_no_object(raw):
    offer = parse_offer(raw)

    assert offer.job_id is None
    assert offer.problem is not None
    assert offer.problem.code is ErrorCode.INVALID


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"env": {"LD_PRELOAD": "x"}}, "env: LD_PRELOAD"),
        ({"env": {"PATH": "x"}}, "env: PATH"),
        ({"env": {"PYTHONPATH": "x"}}, "env: PYTHONPATH"),
        ({"env": {"GLIBC_TUNABLES": "x"}}, "env: GLIBC_TUNABLES"),
        ({"env": {"BASH_ENV": "x"}}, "env: BASH_ENV"),
        ({"env": {"CUDA_VISIBLE_DEVICES": "0"}}, "env: CUDA_VISIBLE_DEVICES"),
        ({"secrets": {"HOME": "x"}}, "secrets: HOME"),
        ({"input": {"urls": ["http://lab.example/x"]}}, "input.urls[0]: plain http"),
    ],
)
def test_what_is_not_allowed_here_is_denied(changes, said):
    failure = problem(**changes)

    assert failure.code is ErrorCode.DENY
    assert said in failure.message


def test_plain_http_is_taken_with_a_hash_or_from_this_machine():
    urls = [{"url": "http://lab.example/x", "sha256": "AB" * 32}, "http://127.0.0.1:8000/y", "http://[::1]/z"]

    assert [item.name for item in manifest(input={"urls": urls}).input.urls] == ["x", "y", "z"]
    assert manifest(input={"urls": urls}).input.urls[0].sha256 == "ab" * 32


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://x/a/b.mp4?sig=1#f", "b.mp4"),
        ("https://x/gr%C3%B6%C3%9Fe.txt", "größe.txt"),
        ("https://x/a%2Fb%00c%0A", "a_b_c_"),
        ("https://x/%2e%2e", "input1"),
        ("https://x/.bashrc", "bashrc"),
        ("https://x/-rf", "rf"),
        ("https://x/dir/", "input1"),
        ("https://x", "input1"),
        ("https://x/%ff%fe", "__"),
        ("https://x/" + "a" * 300 + ".mp4", "a" * 56 + ".mp4"),
    ],
)
def test_the_name_of_an_input_comes_from_its_url(url, name):
    assert [item.name for item in manifest(input={"urls": [url]}).input.urls] == [name]


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({}, "output.txt"),
        ({"artifacts": [{"path": "a", "type": "Text/Plain; charset=utf-8"}, {"path": "b"}]}, "a"),
        ({"stdout": "output.txt"}, None),
        ({"artifacts": []}, None),
        ({"artifacts": [{"path": "a"}]}, None),
        ({"artifacts": [{"path": "a", "type": "text/plain"}, {"path": "b", "type": "text/plain"}]}, None),
    ],
)
def test_which_artifact_takes_the_standard_output_unasked(changes, path):
    assert manifest(**changes).implicit_stdout == path


def test_secrets_part_from_the_manifest():
    offer = parse_offer({**SECTION_16, "secrets": {"API_KEY": "hunter2-hunter2"}})

    assert offer.manifest is not None
    assert offer.manifest.secret_names == ("API_KEY",)
    assert offer.secrets["API_KEY"].get_secret_value() == "hunter2-hunter2"
    assert "hunter2" not in repr(offer) + str(offer) + repr(offer.manifest) + json.dumps(offer.journal_form)


@pytest.mark.parametrize("changes", [{"env": {"PATH": "x"}}, {"args": [1]}, {"secrets": {"A": "hunter2\0"}}])
def test_a_refused_offer_keeps_no_secret_and_no_content(changes):
    offer = parse_offer({**SECTION_16, "secrets": {"A": "hunter2"}, "command": "confidential", **changes})

    assert offer.secrets == {}
    assert "hunter2" not in repr(offer)
    assert "confidential" not in json.dumps(offer.journal_form)
    assert offer.journal_form["job_id"] == "j-local-1"
    assert offer.journal_form["fields"]["command"] == "string"
    with pytest.raises(ValueError, match="runner"):
        Manifest.from_journal(offer.journal_form)


def test_a_manifest_too_large_for_the_journal_is_refused():
    half = "x" * (JOURNAL_BYTES_MAX // 2)

    assert manifest(input={"inline": {"a": half}}).input.inline["a"] == half
    assert "larger than" in problem(input={"inline": {"a": half, "b": half}}).message


def test_many_errors_are_told_in_few_words():
    message = problem(args=[1] * 50).message

    assert "and 47 more" in message
