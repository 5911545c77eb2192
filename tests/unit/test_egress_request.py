"""What the proxy reads from a job's bytes: the two forms, and nothing that merely looks like one of them."""

import pytest

from fsm_miner.config.model import Network
from fsm_miner.egress.grant import grant, host_and_port, not_allowed
from fsm_miner.egress.request import Ask, Refusal, parse_head


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("example.org:443", ("example.org", 443)),
        ("EXAMPLE.org:443", ("example.org", 443)),
        ("203.0.113.9:80", ("203.0.113.9", 80)),
        ("[2001:DB8::0001]:443", ("2001:db8::1", 443)),
        ("xn--bcher-kva.example:443", ("xn--bcher-kva.example", 443)),
    ],
)
def test_connect(target, found):
    ask = parse_head(f"CONNECT {target} HTTP/1.1\r\nHost: x\r\nProxy-Authorization: Basic eA==".encode())
    assert ask == Ask(found, None, None)


@pytest.mark.parametrize(
    "target",
    [
        *("example.org", "example.org:", ":443", "example.org:0", "example.org:65536", "example.org:-1"),
        *("example.org:443:443", "example.org:4 43", "user@example.org:443", "user:pw@example.org:443"),
        *("example.org.:443", "exa mple.org:443", "example.org:443/path", "http://example.org:443", "*"),
        *("[::1:443", "::1:443", "[::1]", "[example.org]:443", "[::1]x:443", "b\xfccher.example:443"),
        *("example.org\t:443", "example.org\0:443", "-x.example:443", "x..example:443", "a" * 300 + ":443"),
        "example.org:\u0664\u0664\u0663",
    ],
)
def test_what_is_no_host_and_port(target):
    found = parse_head(f"CONNECT {target} HTTP/1.1".encode())
    assert isinstance(found, Refusal)
    assert found.status == 400


@pytest.mark.parametrize(
    "head",
    [
        *(
            b"",
            b"CONNECT",
            b"CONNECT a:1",
            b"connect a:1 HTTP/1.1",
            b"CONNECT a:1 HTTP/2.0",
            b"CONNECT a:1 HTTP/1.1 ",
        ),
        *(
            b" CONNECT a:1 HTTP/1.1",
            b"CONNECT  a:1 HTTP/1.1",
            b"CONNECT a:1 HTTP/1.1\nHost: b",
            b"\x16\x03\x01\x02",
        ),
        *(b"CONNECT a:1 HTTP/1.1\r\nno colon", b"CONNECT a:1 HTTP/1.1\r\nA: b\r\n folded"),
        *(
            b"CONNECT a:1 HTTP/1.1\r\nA : b",
            b"CONNECT a:1 HTTP/1.1\r\nA: b\nB: c",
            b"CONNECT a:1 HTTP/1.1\r\nA: \0",
        ),
        *(
            b"CONNECT a:1 HTTP/1.1\r\n: b",
            b"GET /path HTTP/1.1",
            b"GET https://a/ HTTP/1.1",
            b"GET ftp://a/ HTTP/1.1",
        ),
        *(
            b"GET http:// HTTP/1.1",
            b"GET http://u:p@a/ HTTP/1.1",
            b"GET http://a:0/ HTTP/1.1",
            b"OPTIONS * HTTP/1.1",
        ),
        *(b"GET http://a:/ HTTP/1.1", b"GET http://[::1/ HTTP/1.1", b"GET http://a.:80/ HTTP/1.1"),
        b"POST http://a/ HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1",
        b"POST http://a/ HTTP/1.1\r\nContent-Length: 1, 1",
        b"POST http://a/ HTTP/1.1\r\nContent-Length: +1",
        b"POST http://a/ HTTP/1.1\r\nContent-Length: ",
        b"POST http://a/ HTTP/1.1\r\nContent-Length: 99999999999999",
    ],
)
def test_malformed(head):
    found = parse_head(head)
    assert isinstance(found, Refusal)
    assert found.status == 400
    assert found.text.isascii()


def test_a_body_of_unknown_length_is_refused():
    found = parse_head(b"POST http://a/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5")
    assert isinstance(found, Refusal)
    assert found.status == 501


def test_a_plain_request_is_said_anew_and_ends_its_connection():
    ask = parse_head(
        b"POST http://Example.org:8080/a?b=c#d HTTP/1.0\r\nHost: other.example\r\nContent-Length: 3\r\n"
        b"Proxy-Authorization: Basic eA==\r\nConnection: keep-alive, X-Mine, Content-Length\r\nX-Mine: 1\r\n"
        b"Keep-Alive: 5\r\nUpgrade: h2c\r\nAccept: */*"
    )
    assert isinstance(ask, Ask)
    assert ask.target == ("example.org", 8080)
    assert ask.body_bytes == 3
    assert ask.head == (
        b"POST /a?b=c HTTP/1.0\r\nHost: Example.org:8080\r\n"
        b"content-length: 3\r\naccept: */*\r\nConnection: close\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("uri", "target"), [("http://a", ("a", 80)), ("http://[::1]/x", ("::1", 80)), ("http://a#b?c", ("a", 80))]
)
def test_port_80_goes_without_saying(uri, target):
    ask = parse_head(f"GET {uri} HTTP/1.1".encode())
    assert isinstance(ask, Ask)
    assert ask.target == target
    assert ask.body_bytes == 0
    assert ask.head is not None
    assert b"?" not in ask.head


NETWORK = Network(allow=("a.example:443", "10.0.0.1:80", "[::1]:8080"), allow_private=("b.lan:80",))


def test_what_both_name_is_granted():
    found = grant(["A.example:443", "b.lan:80", "c.example:443", "a.example:80"], NETWORK)
    assert found.targets == {("a.example", 443), ("b.lan", 80)}
    assert not_allowed(["A.example:443", "c.example:443", "a.example:80"], NETWORK) == [
        "c.example:443",
        "a.example:80",
    ]


@pytest.mark.parametrize(
    ("target", "address", "fine"),
    [
        ("a.example:443", "93.184.215.14", True),
        ("a.example:443", "10.0.0.1", False),
        ("a.example:443", "127.0.0.1", False),
        ("a.example:443", "::ffff:127.0.0.1", False),
        ("b.lan:80", "10.0.0.1", True),
        ("b.lan:80", "127.0.0.1", True),
        ("b.lan:80", "169.254.169.254", False),
        ("b.lan:80", "fe80::1", False),
        ("b.lan:80", "224.0.0.1", False),
        ("10.0.0.1:80", "10.0.0.1", True),
        ("[::1]:8080", "::1", True),
    ],
)
def test_addresses_of_what_is_granted(target, address, fine):
    host, port = host_and_port(target)
    assert (grant([target], NETWORK).policy.refusal(host, port, address) is None) == fine


def test_a_number_in_disguise_is_no_address_that_the_operator_wrote():
    network = Network(allow=("2130706433:80", "0177.0.0.1:80"))
    for text in network.allow:
        host, port = host_and_port(text)
        assert grant([text], network).policy.refusal(host, port, "127.0.0.1") is not None


def test_a_job_that_does_not_ask_is_granted_nothing():
    assert grant([], NETWORK).targets == frozenset()
