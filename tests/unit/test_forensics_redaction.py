"""What may open a door is taken out of a bundle, and what ties the records together stays."""

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsm_miner.forensics.redaction import redact_data, redact_text
from states.events import to_data
from tests.support.cli_journal import offered, running, succeeded

R = "[redacted]"


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("https://host/a/b.mp4?X-Sig=abc&t=1#frag", f"https://host/a/b.mp4?{R}"),
        ("get https://me:pw@host:8443/a, then b", f"get https://{R}@host:8443/a, then b"),
        ("s3://key@bucket#x", f"s3://{R}@bucket#{R}"),
        ("Authorization: Bearer abc.def-0123456789", f"Authorization: Bearer {R}"),
        ("use Bearer abcdefgh01234567 now", f"use Bearer {R} now"),
        ('{"api_key": "hunter2", "n": 3}', f'{{"api_key": {R}, "n": 3}}'),
        ("PGPASSWORD=hunter2 psql", f"PGPASSWORD={R} psql"),
        ("run --token abc --fast", f"run --token {R} --fast"),
        ("found ghp_0123456789abcdef here", f"found {R} here"),
        ("AKIAIOSFODNN7EXAMPLE", R),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc", R),
        ("key dGhpcyBpcyBhIFNlY3JldCBrZXkgMTIzNDU2Nzg5MA==", f"key {R}"),
        ("a\n-----BEGIN RSA PRIVATE KEY-----\nMIIx\n-----END RSA PRIVATE KEY-----\nb", f"a\n{R}\nb"),
        ("a -----BEGIN PRIVATE KEY-----\nMIIx", f"a {R}"),
    ],
)
def test_credentials_go(text, redacted):
    assert redact_text(text) == redacted


@pytest.mark.parametrize(
    "text",
    [
        "",
        "frame= 100 fps=25 q=28.0 size= 256kB time=00:00:04.00 bitrate= 524.3kbits/s speed=1x",
        "max_tokens=100, 512 tokens: done",
        "https://host/a/b.mp4",
        "ab" * 32,
        "/usr/lib/python3.11/site-packages/Some_Package-1.2.3/Module/Name.py",
        "the token expired",
        "j-20261124-6e58a791",
        "123e4567-e89b-12d3-a456-426614174000",
    ],
)
def test_everything_else_stays(text):
    assert redact_text(text) == text


def test_a_manifest_keeps_its_shape():
    event = offered(
        env={"GREETING": "hello", "N": "1"},
        args=["--api-key", "hunter2", "-y", "in.mp4"],
        params={"password": "x", "deep": [{"auth_token": 5, "on": True}], "path": "Ab1" * 12},
        secret_names=["API_KEY"],
        input={"urls": [{"url": "https://h/x?sig=1", "sha256": "cd" * 32}], "inline": {"t": "SECRET=9"}},
    )
    manifest = redact_data(to_data(event))["manifest"]
    assert manifest["env"] == {"GREETING": R, "N": R}
    assert manifest["args"] == ["--api-key", R, "-y", "in.mp4"]
    assert manifest["params"] == {"password": R, "deep": [{"auth_token": R, "on": True}], "path": R}
    assert manifest["secret_names"] == ["API_KEY"]
    assert manifest["input"] == {
        "urls": [{"url": f"https://h/x?{R}", "sha256": "cd" * 32}],
        "inline": {"t": f"SECRET={R}"},
    }
    assert manifest["artifacts"] == event.manifest["artifacts"]


def test_a_life_without_credentials_is_left_alone():
    for event in [*succeeded(), *running(2)]:
        data = json.loads(json.dumps(to_data(event)))
        assert redact_data(data) == data


@settings(deadline=None)
@given(st.text() | st.from_regex(r"(https?://|--token |api_key=|Bearer |eyJ)[A-Za-z0-9?&=@#:/ .\n-]{0,60}"))
def test_redacting_twice_changes_nothing(text):
    once = redact_text(text)
    assert redact_text(once) == once


@pytest.mark.parametrize(
    "piece", ["a", "token", "--token ", "https://", "-----BEGIN PRIVATE KEY-----", "Aa1", "=:", " ", "eyJ"]
)
def test_no_log_makes_it_slow(piece):
    began = time.process_time()
    redact_text(piece * (65536 // len(piece)))
    assert time.process_time() - began < 3
