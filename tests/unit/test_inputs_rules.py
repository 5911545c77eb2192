import asyncio
import hashlib
from pathlib import Path

import httpx
import pytest

from fsm_miner.addresses import AddressPolicy
from fsm_miner.input_hosts import input_client
from fsm_miner.input_rules import StoppedError, redirect_target, shown
from fsm_miner.inputs import Fetched, FetchLimits, InputUrl, fetch_inputs
from states.codes import ErrorCode, Failure

ROOMY = FetchLimits(total_bytes=1 << 20, reserve_bytes=0, total_s=30.0)
HASH = "0" * 64
DOCS = Path(__file__).parents[2] / "docs"


def fetch(into: Path, urls=(), inline=None, limits=ROOMY, free=1 << 40) -> list[Fetched] | Failure:
    async def go() -> list[Fetched] | Failure:
        async with input_client(AddressPolicy()) as client:
            return await fetch_inputs(
                list(urls), inline or {}, into, client=client, limits=limits, free_bytes=lambda _: free
            )

    return asyncio.run(go())


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "fe80::1",
        "fe80::1%eth0",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::",
        "224.0.0.1",
        "ff02::1",
        "0.0.0.0",
        "::",
        "240.0.0.1",
        "255.255.255.255",
        "::127.0.0.1",
        "::ffff:0:127.0.0.1",
        "64:ff9b:1::169.254.169.254",
        "::ffff:224.0.0.1",
        "100.100.100.200",
        "168.63.129.16",
        "::ffff:168.63.129.16",
        "64:ff9b::168.63.129.16",
        "fd00:ec2::254",
        "fd00:ec2::254%eth0",
        "fd20:ce::254",
        "",
        "127.1",
        "0x7f.1",
        "2130706433",
        "not an address",
    ],
)
def test_some_addresses_are_for_nobody(address: str):
    policy = AddressPolicy(frozenset({("host", 443)}))
    assert policy.refusal("host", 443, address) is not None


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "::1", "10.0.0.1", "192.168.1.1", "172.16.0.1", "100.64.0.1", "100.127.255.254", "198.18.0.1",
     "192.0.0.8", "192.0.2.1", "0.1.2.3", "fc00::1", "fd00::254", "fec0::1", "::1%lo", "::ffff:10.0.0.1",
     "64:ff9b::7f00:1", "2002:7f00:1::", "2002:a00:1::", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:db8::1",
     "192.0.0.170", "2001:2::1", "3fff::1"],
)  # fmt: skip
def test_addresses_that_are_not_public_are_for_trusted_hosts_only(address: str):
    policy = AddressPolicy.for_coordinator("https://Coord.local/api/v1", ("files.lan", 8080))
    assert policy.refusal("coord.LOCAL", 443, address) is None
    assert policy.refusal("files.lan", 8080, address) is None
    for host, port in (("coord.local", 80), ("files.lan", 443), ("elsewhere", 443)):
        refusal = policy.refusal(host, port, address)
        assert refusal is not None
        assert "not public" in refusal
        assert f"only if {host}:{port} is the coordinator's own (coordinator.base_url)" in refusal


def test_the_documents_say_which_key_lets_inputs_come_from_inside():
    """No key but the coordinator's address does."""
    said = "the coordinator's own host and port (`coordinator.base_url`)"
    for document, row in (
        ("wire.md", "| `input.urls` |"),
        ("configuration.md", "| `network.allow_private` |"),
    ):
        (line,) = [one for one in (DOCS / document).read_text("utf-8").splitlines() if one.startswith(row)]
        assert said in line, document


@pytest.mark.parametrize(
    "address", ["93.184.215.14", "172.32.0.1", "2606:2800:220:1::1", "64:ff9b::5db8:d70e"]
)
def test_public_addresses_are_for_everybody(address: str):
    assert AddressPolicy().refusal("anyone", 443, address) is None


@pytest.mark.parametrize(
    ("url", "sha256", "code", "words"),
    [
        ("ftp://h/x", None, ErrorCode.DENY, "neither http nor https"),
        ("file:///etc/passwd", None, ErrorCode.DENY, "neither http nor https"),
        ("/etc/passwd", None, ErrorCode.DENY, "neither http nor https"),
        ("https://user:pw@h/x", None, ErrorCode.DENY, "credentials"),
        ("https://user@h/x", None, ErrorCode.DENY, "credentials"),
        ("http://203.0.113.1/x", None, ErrorCode.DENY, "plain http"),
        ("http://2130706433/x", None, ErrorCode.DENY, "plain http"),
        ("http://127.0.0.1:1/x", None, ErrorCode.DENY, "not allowed here"),
        ("http://2130706433:1/x", HASH, ErrorCode.DENY, "not allowed here"),
        ("http://0x7f.1:1/x", HASH, ErrorCode.DENY, "not allowed here"),
        ("http://169.254.169.254/latest", HASH, ErrorCode.DENY, "link-local"),
        ("http://[fe80::1]/x", HASH, ErrorCode.DENY, "link-local"),
        ("http://[::ffff:169.254.169.254]/x", HASH, ErrorCode.DENY, "link-local"),
        ("https://[::1", None, ErrorCode.INPUT, "does not parse"),
        ("https://h/" + "x" * 5000, None, ErrorCode.INPUT, "longer than"),
        ("https://h\r\nX: y/", None, ErrorCode.INPUT, "does not parse"),
    ],
)
def test_urls_that_are_never_asked(tmp_path: Path, url: str, sha256: str | None, code: ErrorCode, words: str):
    failure = fetch(tmp_path, [InputUrl(url, "in", sha256)])
    assert isinstance(failure, Failure)
    assert failure.code is code
    assert not failure.retry_here
    assert words in failure.message
    assert "pw" not in failure.message.replace("/etc/passwd", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "/x", "a\0", "a\n", ".part-1", "n" * 256])
def test_names_that_are_no_names(tmp_path: Path, name: str):
    for failure in (fetch(tmp_path, inline={name: "x"}), fetch(tmp_path, [InputUrl("https://h/", name)])):
        assert isinstance(failure, Failure)
        assert failure.code is ErrorCode.INVALID
    assert list(tmp_path.iterdir()) == []


def test_a_name_is_there_once(tmp_path: Path):
    failure = fetch(tmp_path, [InputUrl("https://h/", "a")], {"a": "x"})
    assert failure == Failure(ErrorCode.INVALID, "input: name 'a' is there twice")


def test_inline_texts_become_read_only_files(tmp_path: Path):
    fetched = fetch(tmp_path, inline={"text": "grüße", "empty": ""})
    assert fetched == [
        Fetched("text", 7, hashlib.sha256("grüße".encode()).hexdigest()),
        Fetched("empty", 0, hashlib.sha256(b"").hexdigest()),
    ]
    assert (tmp_path / "text").read_text(encoding="utf-8") == "grüße"
    assert (tmp_path / "text").stat().st_mode & 0o777 == 0o444
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "text"]


def test_a_lone_surrogate_is_no_text(tmp_path: Path):
    failure = fetch(tmp_path, inline={"text": "\ud800"})
    assert isinstance(failure, Failure)
    assert failure.code is ErrorCode.INVALID


def test_inline_texts_count_toward_the_limit_and_the_disk(tmp_path: Path):
    over = fetch(tmp_path, inline={"a": "x" * 6, "b": "x" * 6}, limits=FetchLimits(10, 0, 30.0))
    assert isinstance(over, Failure)
    assert (over.code, over.retry_here) == (ErrorCode.INPUT, False)
    full = fetch(tmp_path, inline={"c": "x" * 60}, limits=FetchLimits(100, 50, 30.0), free=100)
    assert isinstance(full, Failure)
    assert full.code is ErrorCode.NORESOURCE
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_folder_that_is_gone_is_a_failure_and_no_crash(tmp_path: Path):
    failure = fetch(tmp_path / "none", inline={"a": "x"})
    assert isinstance(failure, Failure)
    assert failure.code is ErrorCode.NORESOURCE


def test_a_client_with_a_token_is_a_defect(tmp_path: Path):
    async def go() -> None:
        async with httpx.AsyncClient(headers={"Authorization": "Bearer t"}, trust_env=False) as client:
            await fetch_inputs([], {}, tmp_path, client=client, limits=ROOMY, free_bytes=lambda _: 1)

    with pytest.raises(AssertionError, match="must never fetch inputs"):
        asyncio.run(go())


def test_a_shown_url_has_no_signature_in_it():
    assert shown("https://u:p@h/a/b?X-Sig=secret#frag") == "https://h/a/b"
    assert shown("https://[::1") == "(not a URL)"
    assert len(shown("https://h/" + "a" * 3000)) < 200


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/b", "https://h/b"),
        ("//other/b", "https://other/b"),
        ("https://other:8443/b?c", "https://other:8443/b?c"),
        ("http://h/b", None),
        ("ftp://h/b", None),
    ],
)
def test_a_redirect_never_leaves_https(location: str, target: str | None):
    item = InputUrl("https://h/a", "in", HASH)
    response = httpx.Response(302, headers={"Location": location})
    if target is not None:
        assert str(redirect_target(httpx.URL(item.url), response, item)) == target
        return
    with pytest.raises(StoppedError) as stopped:
        redirect_target(httpx.URL(item.url), response, item)
    assert stopped.value.failure.code is ErrorCode.DENY
