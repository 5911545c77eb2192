"""Manifests that try to get past the allowlist, and media that lie about themselves: real rules, a real ffmpeg."""

import shutil
import struct
import zlib
from pathlib import Path

import pytest

from runners.allowlist import Denied, load
from tests.hostile.arguments import FFMPEG, LIES, VARIABLES, WHISPER, ffmpeg, whisper
from tests.hostile.scene import neighbour
from tests.integration.daemon.rig import until
from tests.support.needs import lacking

ALLOWLIST = Path(__file__).parents[2] / "allowlist.d"


def sh(**more):
    return {"runner": "cli", "command": "sh", "args": ["-c", "true"], "timeout_s": 10, **more}


OUT = [{"path": "out.mp4", "type": "video/mp4", "max_mb": 4}]

DENIED = {
    "a command that is not listed": {"runner": "cli", "command": "bash", "args": [], "timeout_s": 5},
    "a listed command by another path": {"runner": "cli", "command": "/usr/local/bin/ffmpeg", "timeout_s": 5},
    "a path to a listed command with dots": {
        "runner": "cli",
        "command": "/usr/bin/../bin/ffmpeg",
        "timeout_s": 5,
    },
    "a Python task that is a module of Python's": {"runner": "python", "task": "os", "timeout_s": 5},
}

INVALID = {
    "a Python task by its path": {"runner": "python", "task": "../../etc/evil", "timeout_s": 5},
    "an artifact outside": sh(artifacts=[{"path": "../x", "type": "text/plain", "max_mb": 1}]),
    "an absolute artifact": sh(artifacts=[{"path": "/etc/passwd", "type": "text/plain", "max_mb": 1}]),
    "a newline in an artifact's name": sh(artifacts=[{"path": "a\nb", "type": "text/plain", "max_mb": 1}]),
    "an input's name outside": sh(input={"urls": [{"url": "https://x.example/a", "name": "../a"}]}),
    "a NUL in an argument": {"runner": "cli", "command": "sh", "args": ["-c", "true\0"], "timeout_s": 5},
    "a variable that is no name": sh(env={"A=B": "x"}),
    "a negative time limit": {"runner": "cli", "command": "sh", "args": [], "timeout_s": -1},
    "an endless time limit": {"runner": "cli", "command": "sh", "args": [], "timeout_s": 10**12},
}


@pytest.fixture(scope="module")
def node(rig):
    """The rig, with the rules that are shipped."""
    if shutil.which("ffmpeg") is None:
        lacking("ffmpeg is missing: apt install ffmpeg")
    for name in ("ffmpeg", "whisper"):
        rig.node.allowlist.joinpath(f"{name}.yaml").write_bytes((ALLOWLIST / f"{name}.yaml").read_bytes())
    until(lambda: "not on the allowlist" not in message_of(rig, whisper("--help")), "the rules are read")
    return rig


def message_of(rig, manifest):
    return rig.coordinator.run(manifest)["outcomes"][0]["body"]["error_msg"]


def refused(rig, *manifests, code="E_DENY"):
    """Have all of them refused before anything is started; return what was said."""
    told = []
    for job_id, manifest in zip(rig.coordinator.submit(*manifests), manifests, strict=True):
        (outcome,) = rig.coordinator.wait(job_id)["outcomes"]
        assert outcome["body"]["error_code"] == code, (manifest, outcome["body"])
        assert "LaunchIntended" not in rig.node.events(job_id), manifest
        told.append(outcome["body"]["error_msg"])
    return told


def test_each_is_denied_and_nothing_is_started(node):
    assert all(refused(node, *DENIED.values()))


@pytest.mark.parametrize("what", FFMPEG)
def test_ffmpeg_is_not_started_with(node, what):
    """Judged one by one by the rule, and some of them handed in, to be judged by the daemon."""
    rule = load([str(ALLOWLIST / "ffmpeg.yaml")]).allowlist
    allowed = [args for args in FFMPEG[what] if not isinstance(rule.judge("ffmpeg", list(args)), Denied)]
    assert allowed == []
    told = refused(node, *(ffmpeg(*args) for args in FFMPEG[what][::8]))
    assert all(text.startswith("args") or "argument" in text for text in told), told


def test_whisper_is_not_started_with(node):
    refused(node, *(whisper(*args) for args in WHISPER))


@pytest.mark.parametrize("where", ["env", "secrets"])
def test_no_variable_that_chooses_what_runs_is_set(node, where):
    told = refused(node, *(sh(**{where: {name: "/job/input/x"}}) for name in VARIABLES))
    assert all(name in text for name, text in zip(VARIABLES, told, strict=True))


@pytest.mark.parametrize("name", INVALID)
def test_it_is_no_manifest_and_nothing_is_started(node, name):
    manifest = {**INVALID[name], "job_id": f"j-invalid-{list(INVALID).index(name)}", "attempt": 1}
    node.coordinator.offer(manifest)
    outcome = node.coordinator.outcome_of_offer(manifest["job_id"])
    assert outcome["body"]["error_code"] == "E_INVALID", outcome["body"]
    assert "LaunchIntended" not in node.node.events(manifest["job_id"])


def test_a_medium_that_is_one_is_converted(node):
    """So what follows is not refused for another reason."""
    samples = bytes(16_000)
    header = struct.pack("<IHHIIHH", 16, 1, 1, 8000, 16_000, 2, 16)
    wave = b"WAVEfmt " + header + b"data" + struct.pack("<I", len(samples)) + samples
    body, log = convert(
        node, "wave", b"RIFF" + struct.pack("<I", len(wave)) + wave, "-i", "in.mp4", "out.flac"
    )
    assert "error_code" not in body, log


@pytest.mark.parametrize("name", LIES)
def test_a_medium_that_names_other_files_gets_nothing(scene, node, name):
    scene.forget()
    body, log = convert(node, name, LIES[name].replace(b"PORT", str(scene.closed.port).encode()))
    assert body["error_code"] in {"E_EXIT", "E_TIMEOUT"}, body
    assert "PATH=" not in log
    assert scene.closed.heard == []
    assert node.coordinator.run(neighbour())["state"] == "done"


def test_a_picture_that_unfolds_to_more_than_its_memory_ends_with_it(node):
    """Some 200 KiB that are 400 MB of white when decoded."""
    width, height = 20_000, 20_000

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(1)
    row = bytes(width + 1) * 100
    rows = b"".join(packer.compress(row) for _ in range(height // 100)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    picture = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    body, _ = convert(node, "bomb", picture, "-i", "in.mp4", "out.png")
    assert body["error_code"] in {"E_OOM", "E_EXIT"}, body
    assert node.coordinator.run(neighbour())["state"] == "done"


def convert(rig, name, content, *args):
    """Have ffmpeg read what is named in.mp4; return what came of it, and the log."""
    url = rig.coordinator.put_file(f"{name.replace(' ', '-')}.mp4", content)
    manifest = ffmpeg(
        *(args or ("-i", "in.mp4", "-c", "copy", "out.mp4")),
        input={"urls": [{"url": url, "name": "in.mp4"}]},
        artifacts=[{"path": "out.mp4", "type": "video/mp4", "max_mb": 4, "optional": True}],
        timeout_s=10,
    )
    view = rig.coordinator.run(manifest, 40)
    (outcome,) = view["outcomes"]
    return outcome["body"], rig.node.exec_log(view["job_id"]).read_text(errors="replace")
