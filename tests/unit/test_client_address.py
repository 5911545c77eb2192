"""Which coordinators the client talks to at all."""

import pytest

from fsm_miner.coordinator.exchange import checked_base_url
from fsm_miner.coordinator.http import HttpCoordinator


@pytest.mark.parametrize(
    "url",
    [
        "https://coordinator.local/api/v1",
        "https://coordinator.local/api/v1/",
        "https://10.0.0.1:8443",
        "http://127.0.0.1:8000/api/v1",
        "http://127.9.9.9",
        "http://localhost:1",
        "http://[::1]:8000/x",
    ],
)
def test_accepted(url):
    assert str(checked_base_url(url)).startswith(url.rstrip("/"))


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://coordinator.local/api/v1", "this machine only"),
        ("http://127.0.0.1.example.org", "this machine only"),
        ("http://localhost.example.org", "this machine only"),
        ("ftp://127.0.0.1", "must be https"),
        ("coordinator.local", "must be https"),
        ("", "must be https"),
        ("https://", "must be https"),
        ("https://user:pw@coordinator.local", "no credentials"),
        ("https://coordinator.local?x=1", "no credentials"),
        ("https://coordinator.local:port", "not a URL"),
    ],
)
def test_refused_with_a_reason_and_without_the_address(url, why):
    with pytest.raises(ValueError, match=why):
        HttpCoordinator(url, "node-1", lambda: "boot")


def test_a_missing_authority_is_said_at_once(tmp_path):
    with pytest.raises(OSError, match="No such file"):
        HttpCoordinator("https://coordinator.local", "node-1", lambda: "boot", ca_file=tmp_path / "none.pem")
