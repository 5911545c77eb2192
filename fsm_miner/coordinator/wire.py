"""The contract's answers, read: from a complete HTTP answer to what it means. Pure.

An answer that does not have the contract's shape is Unknown, whatever its status: it may come from a proxy,
a captive portal or a broken coordinator, and nothing may be destroyed because of it. Unknown fields are
ignored; a field that is null counts as absent.
"""

import json
from collections.abc import Callable, Collection
from typing import Any, NoReturn, TypeVar, cast

from fsm_miner.coordinator.exchange import Reply
from fsm_miner.coordinator.port import (
    Absent,
    AckAnswer,
    Acked,
    BeatAnswer,
    BeatTaken,
    Delivered,
    DeliveryAnswer,
    Gone,
    JobOffer,
    NothingToDo,
    ProgressAnswer,
    ProgressTaken,
    PullAnswer,
    ReconcileAnswer,
    Reconciled,
    Refused,
    RegisterAnswer,
    Registered,
    Rejected,
    Unauthorized,
    Unknown,
)

__all__ = [
    "ABSENT",
    "read_ack",
    "read_delivery",
    "read_heartbeat",
    "read_progress",
    "read_pull",
    "read_reconcile",
    "read_registration",
]

T = TypeVar("T")

ABSENT = frozenset({404, 405, 501})
GONE = frozenset({404, 409, 410})
# 4xx that say nothing about the content: come again (RFC 9110, RFC 8470, RFC 6585).
COME_AGAIN = frozenset({407, 408, 421, 425, 429})
TOKEN_CHARS_MAX = 8192
DURATION_S_MAX = 10 * 366 * 86400.0


class _Garbled(ValueError):
    """The body is not what the contract says; the message names the field."""


def _no_constant(_name: str) -> NoReturn:
    raise _Garbled("NaN and Infinity are no JSON")


def _decoded(body: bytes) -> Any:
    """Decode a body; an empty one is None. Depth, integers and encoding are the decoder's to refuse."""
    if not body.strip():
        return None
    try:
        return json.loads(body.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise _Garbled("the body is not JSON that this node can read") from None


def _object(body: bytes) -> dict[str, Any]:
    value = _decoded(body)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _Garbled("the body is not a JSON object")
    return cast("dict[str, Any]", value)


def _duration(fields: dict[str, Any], name: str) -> float | None:
    value = fields.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        raise _Garbled(f"{name} is not a number of seconds above 0")
    return DURATION_S_MAX if value > DURATION_S_MAX else float(value)


def _flag(fields: dict[str, Any], name: str) -> bool | None:
    value = fields.get(name)
    if value is not None and not isinstance(value, bool):
        raise _Garbled(f"{name} is neither true nor false")
    return value


def _texts(fields: dict[str, Any], name: str) -> list[str]:
    value = fields.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in cast("list[Any]", value)):
        raise _Garbled(f"{name} is not a list of texts")
    return cast("list[str]", value)


def _unknown(reply: Reply, why: str | None = None) -> Unknown:
    return Unknown(reply.reason if why is None else f"{reply.reason}: {why}", reply.retry_after_s)


def _shaped(reply: Reply, shape: Callable[[bytes], T]) -> T | Unknown:
    """Read a success by `shape`; everything else is Unknown, with the reason and the wait it asks for."""
    if not reply.is_success:
        return _unknown(reply)
    try:
        return shape(reply.body)
    except _Garbled as exc:
        return _unknown(reply, str(exc))


def read_registration(reply: Reply) -> tuple[RegisterAnswer, str | None]:
    """Read `/nodes/register`; the second is the node token, which the answer itself never carries."""
    if reply.status in {401, 403}:
        return Refused(reply.status, reply.reason), None
    if reply.status in ABSENT:
        return Absent(), None
    shaped = _shaped(reply, _registration)
    return (shaped, None) if isinstance(shaped, Unknown) else shaped


def _registration(body: bytes) -> tuple[Registered, str]:
    fields = _object(body)
    token = fields.get("node_token")
    if not isinstance(token, str) or not 0 < len(token) <= TOKEN_CHARS_MAX:
        raise _Garbled("node_token is missing, no text, or too long")
    # What goes into a header must be visible ASCII (RFC 6750, section 2.1).
    if not all("!" <= char <= "~" for char in token):
        raise _Garbled("node_token has a character that a header cannot hold")
    return Registered(_duration(fields, "expires_in_s"), frozenset(_texts(fields, "features"))), token


def read_heartbeat(reply: Reply) -> BeatAnswer:
    """Read `/nodes/heartbeat`."""
    return _of_the_node(reply) or _shaped(reply, _beat)


def _beat(body: bytes) -> BeatTaken:
    fields = _object(body)
    return BeatTaken(tuple(_texts(fields, "cancel")), _flag(fields, "drain"))


def read_pull(reply: Reply) -> PullAnswer:
    """Read `/jobs/pull`. Whatever stands in `job` is handed on as it is, to be judged as a manifest."""
    return Unauthorized(reply.reason) if reply.status == 401 else _shaped(reply, _pulled)


def _pulled(body: bytes) -> JobOffer | NothingToDo:
    if _decoded(body) == "none":
        return NothingToDo()
    fields = _object(body)
    job = fields.get("job")
    if job is None and fields.get("job_jws") is not None:
        raise _Garbled("a signed job (job_jws), which this version cannot take")
    return NothingToDo() if job is None or job == "none" else JobOffer(job)


def read_ack(reply: Reply) -> AckAnswer:
    """Read `/jobs/ack`. A web page in place of JSON comes from something in between: it takes no job away."""
    if reply.status == 401:
        return Unauthorized(reply.reason)
    if reply.status in GONE and not reply.is_html:
        return Gone(reply.status)
    return _shaped(reply, lambda body: Acked(_lease_s(_object(body))))


def _lease_s(fields: dict[str, Any]) -> float | None:
    """Read a lease; one of no length is none: the job is ours all the same."""
    value = fields.get("lease_s")
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value <= 0:
        return None
    return _duration(fields, "lease_s")


def read_progress(reply: Reply) -> ProgressAnswer:
    """Read `/jobs/progress`."""
    return _of_the_node(reply) or _shaped(
        reply, lambda body: ProgressTaken(_flag(_object(body), "cancel") is True)
    )


def read_delivery(reply: Reply) -> DeliveryAnswer:
    """Read `/jobs/result` or `/jobs/fail`. Here too, a web page takes no outcome away from a job.

    413 is the exception: proxies bound bodies, say so with a page, and will say it again to every retry.
    """
    if reply.status == 401:
        return Unauthorized(reply.reason)
    if reply.status == 413:
        return Rejected(reply.status, reply.reason)
    if 400 <= reply.status < 500 and not reply.is_html:
        if reply.status in GONE:
            return Gone(reply.status)
        if reply.status not in COME_AGAIN:
            return Rejected(reply.status, reply.reason)
    shaped = _shaped(reply, _decoded)
    return shaped if isinstance(shaped, Unknown) else Delivered(reply.status)


def read_reconcile(reply: Reply, asked: Collection[str]) -> ReconcileAnswer:
    """Read `/jobs/reconcile`. Only an id that was asked about can be abandoned, and only by that very word."""
    return _of_the_node(reply) or _shaped(reply, lambda body: _reconciled(body, asked))


def _reconciled(body: bytes, asked: Collection[str]) -> Reconciled:
    verdicts = _object(body).get("jobs")
    if not isinstance(verdicts, dict):
        raise _Garbled("jobs is not an object")
    words = cast("dict[str, Any]", verdicts)
    if not all(isinstance(word, str) for word in words.values()):
        raise _Garbled("jobs has a verdict that is no text")
    return Reconciled(frozenset(job_id for job_id in asked if words.get(job_id) == "abandon"))


def _of_the_node(reply: Reply) -> Unauthorized | Absent | None:
    """Take what an optional endpoint says by its status alone."""
    if reply.status == 401:
        return Unauthorized(reply.reason)
    return Absent() if reply.status in ABSENT else None
