"""Manifests that try to get past the allowlist, and media that lie about themselves: real rules, a real ffmpeg."""

import os
import shutil
from pathlib import Path

import pytest

from tests.hostile.conftest import neighbour

ALLOWLIST = Path(__file__).parents[2] / "allowlist.d"

FFMPEG = {"runner": "cli", "command": "ffmpeg", "timeout_s": 30}


def ffmpeg(*args, **more):
    return {**FFMPEG, "args": list(args), **more}


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
    "a file of the host as input": ffmpeg("-i", "/etc/passwd", "out.mp4"),
    "a protocol as input": ffmpeg("-i", "http://127.0.0.1/x.mp4", "out.mp4"),
    "concat": ffmpeg("-i", "concat:a.mp4|b.mp4", "out.mp4"),
    "subfile": ffmpeg("-i", "subfile,,start,0,end,0,,:/etc/passwd", "out.mp4"),
    "a filter that reads files": ffmpeg("-i", "in.mp4", "-vf", "movie=/etc/passwd", "out.mp4"),
    "filter_complex": ffmpeg("-i", "in.mp4", "-filter_complex", "amovie=x.mp4", "out.mp4"),
    "an option as a value": ffmpeg("-i", "-report.mp4", "out.mp4"),
    "an option by a newline": ffmpeg("-i", "in.mp4\n-report", "out.mp4"),
    "an option hidden by an option's missing value": ffmpeg("-i", "-y", "in.mp4", "out.mp4"),
    "an output that is a list of others": ffmpeg("-i", "in.mp4", "-f", "tee", "a.mp4|b.mp4"),
    "an output elsewhere": ffmpeg("-i", "in.mp4", "../../control/run-1.status.mp4"),
    "a folder up in an argument": ffmpeg("-i", "../../other/in.mp4", "out.mp4"),
    "LD_PRELOAD": sh(env={"LD_PRELOAD": "/job/input/evil.so"}),
    "LD_LIBRARY_PATH": sh(env={"LD_LIBRARY_PATH": "/job/input"}),
    "PATH": sh(env={"PATH": "/job/input"}),
    "PYTHONPATH": sh(env={"PYTHONPATH": "/job/input"}),
    "BASH_ENV": sh(env={"BASH_ENV": "/job/input/x"}),
    "GCONV_PATH": sh(env={"GCONV_PATH": "/job/input"}),
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
        assert os.environ.get("CI") != "true", "ffmpeg is missing: apt install ffmpeg"
        pytest.skip("ffmpeg is not installed")
    rig.node.allowlist.joinpath("ffmpeg.yaml").write_bytes((ALLOWLIST / "ffmpeg.yaml").read_bytes())
    view = rig.coordinator.run(ffmpeg("-version"))  # not allowed, but it waits for the rules to be read
    assert "not on the allowlist" not in view["outcomes"][0]["body"]["error_msg"]
    return rig


def refused(rig, manifest, code):
    view = rig.coordinator.run(manifest)
    (outcome,) = view["outcomes"]
    assert outcome["body"]["error_code"] == code, outcome["body"]
    events = rig.node.events(view["job_id"])
    assert "LaunchIntended" not in events, events
    return outcome["body"]["error_msg"]


@pytest.mark.parametrize("name", DENIED)
def test_it_is_denied_and_nothing_is_started(node, name):
    assert refused(node, DENIED[name], "E_DENY")


@pytest.mark.parametrize("name", INVALID)
def test_it_is_no_manifest_and_nothing_is_started(node, name):
    manifest = {**INVALID[name], "job_id": f"j-invalid-{list(INVALID).index(name)}", "attempt": 1}
    node.coordinator.offer(manifest)
    outcome = node.coordinator.outcome_of_offer(manifest["job_id"])
    assert outcome["body"]["error_code"] == "E_INVALID", outcome["body"]
    assert "LaunchIntended" not in node.node.events(manifest["job_id"])


LIES = {
    "an HLS playlist of a file of the host": b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///proc/self/environ\n",
    "an HLS playlist of a service of the host": b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:PORT/healthz\n",
    "an ffconcat script": b"ffconcat version 1.0\nfile '/proc/self/environ'\n",
    "an SDP description": b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
    "an SVG with a file inside": b'<svg><image href="/etc/passwd"/></svg>',
}


@pytest.mark.parametrize("name", LIES)
def test_a_medium_that_names_other_files_gets_nothing(node, name):
    port = node.node.status_url().rpartition(":")[2]
    content = LIES[name].replace(b"PORT", port.encode())
    url = node.coordinator.put_file(f"lie-{list(LIES).index(name)}.mp4", content)
    manifest = ffmpeg(
        *("-i", "in.mp4", "-c", "copy", "out.mp4"),
        input={"urls": [{"url": url, "name": "in.mp4"}]},
        artifacts=[{"path": "out.mp4", "type": "video/mp4", "max_mb": 4, "optional": True}],
        timeout_s=10,
    )
    view = node.coordinator.run(manifest, 40)
    (outcome,) = view["outcomes"]
    assert outcome["body"]["error_code"] in {"E_EXIT", "E_TIMEOUT"}, outcome["body"]
    log = node.node.exec_log(view["job_id"]).read_text(errors="replace")
    assert "MINER_AUTH" not in log
    assert "registered" not in log
    assert node.coordinator.run(neighbour())["state"] == "done"
