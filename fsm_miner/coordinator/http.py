"""The coordinator over HTTP (contract, sections "Node" and "Job").

Tokens live in this object's memory alone: they are in no log, no error text and no repr.
"""

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fsm_miner.coordinator import wire
from fsm_miner.coordinator.exchange import Exchange, Reply
from fsm_miner.coordinator.multipart import Multipart, multipart
from fsm_miner.coordinator.port import (
    Absent,
    AckAnswer,
    Beat,
    BeatAnswer,
    DeliveryAnswer,
    FailureReport,
    ProgressAnswer,
    ProgressReport,
    PullAnswer,
    PullRequest,
    ReconcileAnswer,
    ReconcileJob,
    RegisterAnswer,
    Registered,
    ResultReport,
    Unauthorized,
    Unknown,
)

__all__ = ["HttpCoordinator"]

PULL_BYTES_MAX = 4 * 1024 * 1024
ANSWER_BYTES_MAX = 256 * 1024
NOTE_CHARS_MAX = 1000
ERROR_CHARS_MAX = 4000
LOG_TAIL_CHARS_MAX = 64 * 1024
WAIT_S_MAX = 600.0

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class HttpCoordinator:
    """Implements `fsm_miner.coordinator.port.Coordinator`.

    `bootstrap_token` is asked for when it is needed and not kept. Before the first registration, calls
    answer Unauthorized without being sent; where registration is absent, they go with the bootstrap token.
    `now_ns` is UTC in nanoseconds. `on_absent` hears once, until the next registration, of each optional
    endpoint that the coordinator does not have. `boundary_key` makes multipart boundaries unguessable.

    Raises (here only; a call never does for what the network or the other side did):
        ValueError: `base_url` is unusable, or http:// to another machine.
        OSError: `ca_file` cannot be read, or holds no certificate.

    """

    def __init__(
        self,
        base_url: str,
        node_id: str,
        bootstrap_token: Callable[[], str],
        *,
        timeout_s: float = 20.0,
        tls_verify: bool = True,
        ca_file: Path | None = None,
        now_ns: Callable[[], int] = time.time_ns,
        on_absent: Callable[[str], None] | None = None,
        boundary_key: bytes | None = None,
    ) -> None:
        self._exchange = Exchange(
            base_url,
            timeout_s=timeout_s,
            hidden=lambda: (self._bootstrap_token(), self._node_token or ""),
            tls_verify=tls_verify,
            ca_file=ca_file,
            now_ns=now_ns,
        )
        self._node_id = node_id
        self._bootstrap_token = bootstrap_token
        self._now_ns = now_ns
        self._on_absent = on_absent
        self._boundary_key = os.urandom(32) if boundary_key is None else boundary_key
        self._node_token: str | None = None
        self._without_registration = False
        self._absent: set[str] = set()
        self._urls = {path: self._exchange.url(path) for path in _PATHS}

    def __repr__(self) -> str:
        return f"HttpCoordinator({str(self._exchange.url(''))!r}, {self._node_id!r})"

    async def register(self, descriptor: Mapping[str, Any]) -> RegisterAnswer:
        """Announce the node, and keep the token that comes back."""
        token = self._bootstrap_token()
        reply = await self._send("/nodes/register", token, _json(descriptor))
        if isinstance(reply, Unknown):
            return reply
        answer, node_token = wire.read_registration(reply)
        if isinstance(answer, Absent):
            self._note_absent("/nodes/register")
        if isinstance(answer, (Registered, Absent)):
            self._node_token = node_token
            self._without_registration = node_token is None
            self._absent &= {"/nodes/register"} if isinstance(answer, Absent) else set()
        return answer

    async def heartbeat(self, beat: Beat) -> BeatAnswer:
        """Say that the node lives and what it does."""
        body = {
            "node_id": self._node_id,
            "load": [round(value, 2) for value in beat.load],
            "free_mb": beat.free_mb,
            "gpu_free": beat.gpu_free,
            "state": beat.state,
            "running": [dict(item) for item in beat.running],
            "slots": dict(beat.slots),
        }
        reply = await self._optional("/nodes/heartbeat", body)
        return wire.read_heartbeat(reply) if isinstance(reply, Reply) else reply

    async def pull(self, request: PullRequest) -> PullAnswer:
        """Ask for one job; with `wait_s` the answer may take that much longer."""
        filters = {
            "runners": request.runners,
            "cpu_slots": request.cpu_slots,
            "gpus": [{"vram_free_mb": free} for free in request.gpus_vram_free_mb],
            "tags": request.tags,
            "queues": request.queues,
        }
        body: dict[str, Any] = {"node_id": self._node_id, "filters": filters}
        wait_s = min(max(request.wait_s or 0.0, 0.0), WAIT_S_MAX)
        if wait_s:
            body["wait_s"] = math.ceil(wait_s)
        reply = await self._call("/jobs/pull", _json(body), limit=PULL_BYTES_MAX, wait_s=math.ceil(wait_s))
        return wire.read_pull(reply) if isinstance(reply, Reply) else reply

    async def ack(self, job_id: str, attempt: int) -> AckAnswer:
        """Take the job. The ids go into the query too: the mock of section 16 reads only that."""
        body = {"job_id": job_id, "node_id": self._node_id, "attempt": attempt}
        query = f"job_id={_quoted(job_id)}&node_id={_quoted(self._node_id)}"
        reply = await self._call("/jobs/ack", _json(body), key=_key(job_id, attempt, "ack"), query=query)
        return wire.read_ack(reply) if isinstance(reply, Reply) else reply

    async def progress(self, report: ProgressReport) -> ProgressAnswer:
        """Tell how far a job is. Never repeated, so each report has a key of its own."""
        body: dict[str, Any] = {
            "job_id": report.job_id,
            "node_id": self._node_id,
            "pct": _percentage(report.pct),
            "note": _text(report.note, NOTE_CHARS_MAX),
        }
        if report.log_tail is not None:
            body["log_tail"] = _text(report.log_tail[-LOG_TAIL_CHARS_MAX:], LOG_TAIL_CHARS_MAX)
        step = f"progress-{self._now_ns() // 1_000_000}"
        reply = await self._optional("/jobs/progress", body, key=_key(report.job_id, report.attempt, step))
        return wire.read_progress(reply) if isinstance(reply, Reply) else reply

    async def result(self, report: ResultReport) -> DeliveryAnswer:
        """Deliver a success, its artifacts streamed from their open files, the log last."""
        key = _key(report.job_id, report.attempt, "result")
        # The same on every retry, so that the body is; unknown to the job, so that no artifact can forge a part.
        boundary = hashlib.blake2b(key.encode(), key=self._boundary_key, digest_size=16).hexdigest()
        files = [("artifact", file) for file in report.artifacts]
        if report.log is not None:
            # A name of its own: a receiver that takes one `artifact` (section 16) would else keep the log.
            files.append(("log", report.log))
        fields = (("job_id", report.job_id), ("metadata", _json(report.metadata).decode("ascii")))
        reply = await self._call("/jobs/result", multipart(boundary, fields, tuple(files)), key=key)
        return wire.read_delivery(reply) if isinstance(reply, Reply) else reply

    async def fail(self, report: FailureReport) -> DeliveryAnswer:
        """Deliver a failure."""
        body = {
            "job_id": report.job_id,
            "node_id": self._node_id,
            "attempt": report.attempt,
            "error_code": report.error_code,
            "error_msg": _text(report.error_msg, ERROR_CHARS_MAX),
            "logs_ref": report.logs_ref,
            "retryable": report.retryable,
        }
        reply = await self._call("/jobs/fail", _json(body), key=_key(report.job_id, report.attempt, "fail"))
        return wire.read_delivery(reply) if isinstance(reply, Reply) else reply

    async def reconcile(self, jobs: Sequence[ReconcileJob]) -> ReconcileAnswer:
        """Ask what to do with the jobs that a restart found unfinished."""
        body = {
            "node_id": self._node_id,
            "jobs": [
                {
                    "job_id": job.job_id,
                    "attempt": job.attempt,
                    "state": job.state,
                    "since": _date(job.since_ns),
                }
                for job in jobs
            ],
        }
        reply = await self._optional("/jobs/reconcile", body)
        if not isinstance(reply, Reply):
            return reply
        return wire.read_reconcile(reply, {job.job_id for job in jobs})

    async def close(self) -> None:
        """Close the connections and forget the token."""
        self._node_token = None
        self._without_registration = False
        await self._exchange.close()

    async def _optional(
        self, path: str, body: Mapping[str, Any], *, key: str | None = None
    ) -> Reply | Absent | Unauthorized | Unknown:
        if path in self._absent:
            return Absent()
        reply = await self._call(path, _json(body), key=key)
        if isinstance(reply, Reply) and reply.status in wire.ABSENT:
            self._note_absent(path)
        return reply

    async def _call(
        self,
        path: str,
        body: bytes | Multipart,
        *,
        key: str | None = None,
        query: str = "",
        limit: int = ANSWER_BYTES_MAX,
        wait_s: float = 0.0,
    ) -> Reply | Unauthorized | Unknown:
        token = self._bootstrap_token() if self._without_registration else self._node_token
        if token is None:
            return Unauthorized("not registered yet")
        return await self._send(path, token, body, key=key, query=query, limit=limit, wait_s=wait_s)

    async def _send(
        self,
        path: str,
        token: str,
        body: bytes | Multipart,
        *,
        key: str | None = None,
        query: str = "",
        limit: int = ANSWER_BYTES_MAX,
        wait_s: float = 0.0,
    ) -> Reply | Unknown:
        url = self._exchange.url(path, query) if query else self._urls[path]
        headers = {} if key is None else {"Idempotency-Key": key}
        return await self._exchange.post(
            url, token=token, body=body, limit=limit, headers=headers, wait_s=wait_s
        )

    def _note_absent(self, path: str) -> None:
        if path not in self._absent:
            self._absent.add(path)
            if self._on_absent is not None:
                self._on_absent(path)


_PATHS = (
    "/nodes/register",
    "/nodes/heartbeat",
    "/jobs/pull",
    "/jobs/ack",
    "/jobs/progress",
    "/jobs/result",
    "/jobs/fail",
    "/jobs/reconcile",
)


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode("ascii")


def _quoted(value: str) -> str:
    return quote(value, safe="", errors="replace")


def _key(job_id: str, attempt: int, step: str) -> str:
    return f"{_quoted(job_id)}/{attempt}/{step}"


def _text(value: str, chars_max: int) -> str:
    """Bound a text, and replace half surrogate pairs: many a JSON reader refuses the whole body for one."""
    return value[:chars_max].encode("utf-8", errors="replace").decode("utf-8")


def _percentage(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else min(max(value, 0.0), 100.0)


def _date(at_ns: int) -> str:
    return (_EPOCH + timedelta(microseconds=at_ns // 1000)).isoformat(timespec="milliseconds")
