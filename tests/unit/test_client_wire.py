"""What each answer of the contract means, without a network."""

import pytest

from fsm_miner.coordinator.exchange import Reply
from fsm_miner.coordinator.port import (
    Absent,
    Acked,
    BeatTaken,
    Delivered,
    Gone,
    JobOffer,
    NothingToDo,
    ProgressTaken,
    Reconciled,
    Refused,
    Registered,
    Rejected,
    Unauthorized,
    Unknown,
)
from fsm_miner.coordinator.wire import (
    read_ack,
    read_delivery,
    read_heartbeat,
    read_progress,
    read_pull,
    read_reconcile,
    read_registration,
)


def reply(status, body=b"", *, html=False, retry_after_s=None):
    return Reply(status, body, html, retry_after_s, f"HTTP {status}")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", NothingToDo()),
        (b"  \n", NothingToDo()),
        (b"{}", NothingToDo()),
        (b"null", NothingToDo()),
        (b'"none"', NothingToDo()),
        (b'{"job": null}', NothingToDo()),
        (b'{"job": "none"}', NothingToDo()),
        (b'{"later": 1}', NothingToDo()),
        (b'{"job": {"job_id": "a"}, "later": 1}', JobOffer({"job_id": "a"})),
        (b'{"job": 5}', JobOffer(5)),
        (b'{"job": []}', JobOffer([])),
    ],
)
def test_a_pull_is_read_liberally(body, expected):
    assert read_pull(reply(200, body)) == expected


@pytest.mark.parametrize(
    "body",
    [
        b'{"job": {',
        b"[]",
        b"5",
        b"true",
        b'"later"',
        b"\xff\xfe{}",
        b'{"job": NaN}',
        b'{"job": ' + b"9" * 5000 + b"}",
        b'{"job": ' + b"[" * 100_000,
        b"<html></html>",
    ],
)
def test_a_garbled_pull_is_unknown(body):
    assert isinstance(read_pull(reply(200, body)), Unknown)


def test_a_signed_job_is_not_taken_for_no_job():
    answer = read_pull(reply(200, b'{"job_jws": "a.b.c"}'))

    assert isinstance(answer, Unknown)
    assert "job_jws" in answer.reason


@pytest.mark.parametrize("status", [100, 206, 301, 302, 307, 400, 403, 404, 409, 422, 429, 500, 503, 599])
def test_any_other_status_of_a_pull_is_unknown_and_keeps_the_wait(status):
    answer = read_pull(reply(status, b'{"job": {"job_id": "a"}}', retry_after_s=7.0))

    assert isinstance(answer, Unknown)
    assert answer.retry_after_s == 7.0


def test_204_is_nothing_to_do():
    assert read_pull(reply(204)) == NothingToDo()


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, b"", Acked(None)),
        (200, b"{}", Acked(None)),
        (200, b'{"ok": true}', Acked(None)),
        (200, b'{"lease_s": 30}', Acked(30.0)),
        (200, b'{"lease_s": null}', Acked(None)),
        (200, b'{"lease_s": 0}', Acked(None)),
        (200, b'{"lease_s": -1.5}', Acked(None)),
        (401, b"", Unauthorized("HTTP 401")),
        (404, b"{}", Gone(404)),
        (409, b"", Gone(409)),
        (410, b"taken", Gone(410)),
    ],
)
def test_an_ack(status, body, expected):
    assert read_ack(reply(status, body)) == expected


@pytest.mark.parametrize("body", [b'{"lease_s": true}', b'{"lease_s": "30"}', b"[]", b'"ok"'])
def test_an_ack_of_the_wrong_shape_is_unknown(body):
    assert isinstance(read_ack(reply(200, body)), Unknown)


def test_a_huge_lease_is_bounded():
    answer = read_ack(reply(200, b'{"lease_s": 1' + b"0" * 400 + b"}"))

    assert isinstance(answer, Acked)
    assert answer.lease_s is not None
    assert answer.lease_s < 1e9


@pytest.mark.parametrize("status", [400, 403, 408, 422, 425, 429, 500, 503])
def test_no_other_status_takes_a_job_away(status):
    assert isinstance(read_ack(reply(status)), Unknown)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (200, Delivered(200)),
        (202, Delivered(202)),
        (204, Delivered(204)),
        (401, Unauthorized("HTTP 401")),
        (404, Gone(404)),
        (409, Gone(409)),
        (410, Gone(410)),
        (400, Rejected(400, "HTTP 400")),
        (403, Rejected(403, "HTTP 403")),
        (413, Rejected(413, "HTTP 413")),
        (422, Rejected(422, "HTTP 422")),
        (408, Unknown("HTTP 408", 3.0)),
        (425, Unknown("HTTP 425", 3.0)),
        (429, Unknown("HTTP 429", 3.0)),
        (500, Unknown("HTTP 500", 3.0)),
        (503, Unknown("HTTP 503", 3.0)),
        (302, Unknown("HTTP 302", 3.0)),
    ],
)
def test_a_delivery(status, expected):
    assert read_delivery(reply(status, retry_after_s=3.0)) == expected


@pytest.mark.parametrize("status", [200, 400, 404, 410, 422])
def test_a_web_page_takes_nothing_away(status):
    page = reply(status, b"<!doctype html><h1>nginx</h1>", html=True)

    assert isinstance(read_delivery(page), Unknown)
    assert isinstance(read_ack(page), Unknown)


def test_a_proxys_page_about_size_counts():
    page = reply(413, b"<html><center>nginx</center></html>", html=True)

    assert read_delivery(page) == Rejected(413, "HTTP 413")
    assert isinstance(read_ack(page), Unknown)


@pytest.mark.parametrize("body", [b'"ok"', b"true", b'{"ok": true}', b""])
def test_a_delivery_needs_the_status_and_any_json(body):
    assert read_delivery(reply(200, body)) == Delivered(200)


def test_registration_hands_the_token_over_beside_the_answer():
    body = b'{"node_token": "tok-1", "expires_in_s": 60, "features": ["tus"], "jwks": {}}'

    answer, token = read_registration(reply(200, body))

    assert answer == Registered(60.0, frozenset({"tus"}))
    assert token == "tok-1"
    assert "tok-1" not in repr(answer)


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"node_token": ""}',
        b'{"node_token": null}',
        b'{"node_token": 5}',
        b'{"node_token": "a b"}',
        b'{"node_token": "a\\r\\nX: y"}',
        b'{"node_token": "\\ud800"}',
        b'{"node_token": "' + b"x" * 9000 + b'"}',
        b'{"node_token": "t", "expires_in_s": -1}',
        b'{"node_token": "t", "expires_in_s": "60"}',
        b'{"node_token": "t", "features": "tus"}',
        b'{"node_token": "t", "features": [1]}',
    ],
)
def test_a_registration_of_the_wrong_shape_is_unknown(body):
    answer, token = read_registration(reply(200, body))

    assert isinstance(answer, Unknown)
    assert token is None


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (401, Refused(401, "HTTP 401")),
        (403, Refused(403, "HTTP 403")),
        (404, Absent()),
        (405, Absent()),
        (501, Absent()),
        (500, Unknown("HTTP 500")),
    ],
)
def test_a_registration_without_a_token(status, expected):
    assert read_registration(reply(status)) == (expected, None)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", BeatTaken()),
        (b"{}", BeatTaken()),
        (b'{"cancel": ["a", "b"], "drain": true, "pin": []}', BeatTaken(("a", "b"), True)),
        (b'{"cancel": null, "drain": null}', BeatTaken()),
        (b'{"drain": false}', BeatTaken((), False)),
    ],
)
def test_commands_ride_on_a_heartbeat(body, expected):
    assert read_heartbeat(reply(200, body)) == expected


@pytest.mark.parametrize("body", [b'{"cancel": "a"}', b'{"cancel": [1]}', b'{"drain": 1}', b"[]"])
def test_a_garbled_command_is_unknown(body):
    assert isinstance(read_heartbeat(reply(200, body)), Unknown)


@pytest.mark.parametrize("read", [read_heartbeat, read_progress, lambda got: read_reconcile(got, {"a"})])
@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, Unauthorized), (404, Absent), (405, Absent), (501, Absent), (403, Unknown), (500, Unknown)],
)
def test_an_optional_endpoint(read, status, kind):
    assert isinstance(read(reply(status)), kind)


@pytest.mark.parametrize(
    ("body", "cancel"),
    [(b"", False), (b"{}", False), (b'{"cancel": true}', True), (b'{"cancel": null}', False)],
)
def test_progress(body, cancel):
    assert read_progress(reply(200, body)) == ProgressTaken(cancel)


def test_only_what_was_asked_about_is_abandoned_and_only_by_that_word():
    body = b'{"jobs": {"a": "abandon", "b": "continue", "c": "ABANDON", "stranger": "abandon"}}'

    assert read_reconcile(reply(200, body), {"a", "b", "c", "d"}) == Reconciled(frozenset({"a"}))


@pytest.mark.parametrize(
    "body", [b"", b"{}", b'{"jobs": []}', b'{"jobs": {"a": true}}', b'{"jobs": {"a": null}}']
)
def test_a_garbled_reconciliation_is_unknown(body):
    assert isinstance(read_reconcile(reply(200, body), {"a"}), Unknown)
