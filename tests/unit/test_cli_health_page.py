"""Asking a status page that is nobody's friend: all of its answer is bounded, and what is wrong is one sentence."""

import json
import socket
import threading

import pytest

from fsm_miner.cli.health_page import NoAnswer, health, number_of

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n"


@pytest.fixture
def serve():
    """Serve one connection with a function of it; return the page's address."""
    threads = []

    def start(answer):
        listener = socket.create_server(("127.0.0.1", 0))

        def run():
            with listener, listener.accept()[0] as connection:
                connection.recv(65536)
                answer(connection)

        threads.append(threading.Thread(target=run))
        threads[-1].start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield start
    for thread in threads:
        thread.join(timeout=30)
        assert not thread.is_alive()


def page(body):
    return lambda connection: connection.sendall(
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    )


def test_a_status_is_had(serve):
    assert health(serve(page(b'{"status": "ok", "jobs": []}'))) == {"status": "ok", "jobs": []}


def until_it_leaves(piece, pause_s, left):
    """Send for as long as the other side stays, but not for ever."""

    def answer(connection):
        pause = threading.Event()
        connection.sendall(HEAD)
        try:
            for _ in range(1000):
                connection.sendall(piece)
                pause.wait(pause_s)
        except OSError:
            left.set()

    return answer


@pytest.mark.parametrize(
    ("piece", "pause_s", "words"),
    [(b" ", 0.01, "timed out"), (b" " * 65536, 0, "more than 1048576 bytes")],
    ids=["a byte at a time", "without end"],
)
def test_the_whole_answer_is_bounded_in_time_and_size(serve, piece, pause_s, words):
    left = threading.Event()
    url = serve(until_it_leaves(piece, pause_s, left))
    with pytest.raises(NoAnswer, match=f"{url}/healthz: no answer: {words}"):
        health(url, 0.2 if pause_s else 30.0)
    assert left.wait(timeout=30)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"[" * 200_000, "no answer: maximum recursion depth"),
        (b'{"a":' + b"[" * 500 + b"]" * 500 + b"}", "not a node's status"),
        (b"[]", "not a node's status"),
        (b"{", "no answer: "),
        (b'{"a": ' + b"9" * 5000 + b"}", "no answer: "),
    ],
    ids=["too deep to read", "too deep to show", "a list", "cut off", "a number without end"],
)
def test_what_is_no_status_is_a_sentence(serve, body, words):
    with pytest.raises(NoAnswer, match=words):
        health(serve(page(body)))


@pytest.mark.parametrize("url", ["", "http://[", "http://127.0.0.1:x", "\ud800"])
def test_an_address_that_is_none_is_a_sentence(url):
    with pytest.raises(NoAnswer, match="no answer: "):
        health(url)


def test_no_name_is_looked_up():
    with pytest.raises(NoAnswer, match="'localhost' does not appear to be an IPv4 or IPv6 address"):
        health("http://localhost:9")


@pytest.mark.parametrize("text", ["1e999", "NaN", '"x"', "9" * 4000, "null", "[]"])
def test_a_number_that_can_not_be_meant_is_none(text):
    assert number_of({"uptime_s": json.loads(text)}, "uptime_s") == 0
    assert number_of({"uptime_s": 1.5}, "uptime_s") == 1.5
