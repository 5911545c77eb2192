"""The contract's endpoints, below /api/v1."""

import asyncio
import json
import math
from collections.abc import Awaitable, Callable
from typing import Any

from coordinator_checks import JOB_ID, Refusal, integer, items, text
from coordinator_filters import Filters
from coordinator_house import House, answer, bearer, json_body
from coordinator_multipart import ResultForm
from coordinator_results import check, publish
from coordinator_uploads import parse_metadata
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

__all__ = ["node_routes"]

WAIT_S_MAX = 60
TUS = {"Tus-Resumable": "1.0.0", "Cache-Control": "no-store"}
KEY_CHARS_MAX = 512


class NodeApi:
    """One method for each endpoint. Who speaks is what the token says."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._queue = house.queue

    def _node(self, request: Request, body: Any) -> str:
        """Return who speaks; 401 for an invalid token, 403 when the body names somebody else."""
        token = bearer(request)
        named = body.get("node_id")
        node_id = self._house.nodes.node_of(token)
        if node_id is None and "register" in self._house.without and self._house.nodes.is_bootstrap(token):
            return text(body, "node_id") if named is not None else "anonymous"
        if node_id is None:
            raise Refusal(401, "the node token is unknown or expired: register again")
        if named is not None and named != node_id:
            raise Refusal(403, f"node_id: the token belongs to {node_id}")
        return node_id

    def _key(self, request: Request, job_id: str, attempt: int) -> str:
        key = request.headers.get("idempotency-key", "")
        if not key.startswith(f"{job_id}/{attempt}/") or len(key) > KEY_CHARS_MAX:
            raise Refusal(400, f"Idempotency-Key: {job_id}/{attempt}/<step> is needed, not {key[:80]!r}")
        return key

    async def register(self, request: Request) -> Response:
        """Exchange the bootstrap token for a node token."""
        if not self._house.nodes.is_bootstrap(bearer(request)):
            raise Refusal(401, "the bootstrap token is wrong")
        token, ttl_s = self._house.nodes.register(await json_body(request))
        features = sorted({"tus", "reconcile", "progress", "wait", "cancel"} - self._house.without)
        body: dict[str, Any] = {"node_token": token, "expires_in_s": int(ttl_s), "features": features}
        if self._house.signer is not None and (jwks := self._house.signer.jwks()) is not None:
            body["jwks"] = jwks
        return answer(body)

    async def heartbeat(self, request: Request) -> Response:
        """Keep the node's state, renew its leases, hand out its commands."""
        body = await json_body(request)
        node_id = self._node(request, body)
        running = items(body.get("running", []), "running")
        pairs = [(text(item, "job_id"), integer(item, "attempt", 1, low=1)) for item in running]
        commands = self._house.nodes.heartbeat(node_id, body)
        cancel = self._queue.renew(node_id, pairs)
        return answer(commands | ({"cancel": cancel} if cancel else {}))

    async def pull(self, request: Request) -> Response:
        """Hand out one job, waiting for it up to `wait_s`."""
        body = await json_body(request)
        node_id = self._node(request, body)
        filters = Filters.parse(body.get("filters"))
        wait_s = min(integer(body, "wait_s", 0, high=86400), WAIT_S_MAX)
        end = asyncio.get_running_loop().time() + wait_s
        taken = self._take(node_id, filters)
        while taken is None and (left := end - asyncio.get_running_loop().time()) > 0:
            there = await self._house.waiters.until(lambda: self._queue.has(filters), left)
            # an offer to somebody who has gone would be lost until it runs out
            if not there or await request.is_disconnected():
                break
            taken = self._take(node_id, filters)
        return Response(taken or '{"job":null}', media_type="application/json")

    def _take(self, node_id: str, filters: Filters) -> str | None:
        raw = self._queue.raw_offer(node_id)
        if raw is not None:
            return raw
        manifest = self._queue.offer(node_id, filters)
        if manifest is None:
            return None
        signer = self._house.signer
        return json.dumps({"job": manifest} if signer is None else {"job_jws": signer.sign(manifest)})

    async def ack(self, request: Request) -> Response:
        """Give the lease. The query parameters count where there is no body."""
        has_body = request.headers.get("content-length", "0") != "0"
        body = await json_body(request) if has_body else dict(request.query_params)
        node_id = self._node(request, body)
        job_id = text(body, "job_id")
        attempt = integer(body, "attempt", low=1) if "attempt" in body else None
        if attempt is not None:
            self._key(request, job_id, attempt)
        lease_s = self._queue.ack(job_id, node_id, attempt)
        return answer({} if lease_s is None else {"lease_s": math.ceil(lease_s)})

    async def progress(self, request: Request) -> Response:
        """Keep a progress report; say whether to stop."""
        body = await json_body(request)
        node_id = self._node(request, body)
        pct, note, tail = body.get("pct"), body.get("note", ""), body.get("log_tail")
        if pct is not None and (
            isinstance(pct, bool) or not isinstance(pct, int | float) or not 0 <= pct <= 100
        ):
            raise Refusal(422, "pct: a number from 0 to 100, or null, is needed")
        if not isinstance(note, str) or not isinstance(tail, str | None):
            raise Refusal(422, "note, log_tail: strings are needed")
        cancel = self._queue.progress(text(body, "job_id"), node_id, pct, note[:4096], tail)
        return answer({"cancel": True} if cancel else {})

    async def result(self, request: Request) -> Response:
        """Take a success in, once."""
        token_node = self._node(request, {})
        staging = self._house.data / "incoming"
        content_type = request.headers.get("content-type", "")
        with ResultForm(staging, content_type, self._house.result_bytes_max) as form:
            await form.read(request.stream())
            metadata = form.json_field("metadata")
            job_id, attempt = text(metadata, "job_id"), integer(metadata, "attempt", low=1)
            node_id = text(metadata, "node_id")
            if token_node not in (node_id, "anonymous"):
                raise Refusal(403, f"metadata.node_id: the token belongs to {token_node}")
            if form.field("job_id") != job_id:
                raise Refusal(422, "job_id: the field and the metadata differ")
            key = self._key(request, job_id, attempt)
            if self._queue.is_repeat(job_id, node_id, attempt, "result", key):
                self._queue.count_repeat(job_id, attempt)
                return answer({})
            checked = await check(form, metadata, node_id, self._house.uploads)
            # nothing is awaited from here on: the answer to "is it still theirs" stays true
            if not self._queue.is_repeat(job_id, node_id, attempt, "result", key) and JOB_ID.fullmatch(
                job_id
            ):
                publish(checked, self._house.data / "results" / job_id / str(attempt))
            self._queue.result(job_id, node_id, attempt, key, json.dumps(metadata), checked.artifacts)
        return answer({})

    async def fail(self, request: Request) -> Response:
        """Take a failure in, once."""
        body = await json_body(request)
        node_id = self._node(request, body)
        job_id, attempt = text(body, "job_id"), integer(body, "attempt", low=1)
        if not isinstance(body.get("retryable"), bool) or not isinstance(body.get("error_msg"), str):
            raise Refusal(422, "retryable (true or false) and error_msg (a string) are needed")
        self._queue.fail(job_id, node_id, attempt, self._key(request, job_id, attempt), body)
        return answer({})

    async def reconcile(self, request: Request) -> Response:
        """Say for each unfinished job of a restarted node whether to go on."""
        body = await json_body(request)
        node_id = self._node(request, body)
        jobs = items(body.get("jobs"), "jobs")
        pairs = [(text(item, "job_id"), integer(item, "attempt", low=1)) for item in jobs]
        return answer({"jobs": self._queue.reconcile(node_id, pairs)})

    # tus 1.0.0.

    async def uploads(self, request: Request) -> Response:
        """OPTIONS says what there is; POST begins an upload."""
        store = self._house.uploads
        if request.method == "OPTIONS":
            extra = {
                "Tus-Version": "1.0.0",
                "Tus-Extension": "creation,checksum,termination",
                "Tus-Checksum-Algorithm": "sha256",
                "Tus-Max-Size": str(store.bytes_max),
            }
            return Response(status_code=204, headers=TUS | extra)
        node_id = self._tus_node(request)
        metadata = parse_metadata(request.headers.get("upload-metadata", ""))
        key = request.headers.get("idempotency-key")
        upload_id = store.create(node_id, _number(request, "upload-length"), metadata, key)
        location = f"{str(request.url).partition('?')[0].rstrip('/')}/{upload_id}"
        return Response(status_code=201, headers=TUS | {"Location": location})

    async def upload(self, request: Request) -> Response:
        """HEAD says how far an upload is, PATCH goes on with it, DELETE ends it."""
        store, upload_id = self._house.uploads, request.path_params["upload_id"]
        node_id = self._tus_node(request)
        if request.method == "HEAD":
            row = store.get(upload_id, node_id)
            extra = {"Upload-Offset": str(row["offset"]), "Upload-Length": str(row["length"])}
            return Response(status_code=200, headers=TUS | extra)
        if request.method == "DELETE":
            store.delete(upload_id, node_id)
            return Response(status_code=204, headers=TUS)
        if request.headers.get("content-type") != "application/offset+octet-stream":
            raise Refusal(415, "Content-Type: application/offset+octet-stream is needed")
        checksum = request.headers.get("upload-checksum")
        offset = await store.patch(
            upload_id, node_id, _number(request, "upload-offset"), checksum, request.stream()
        )
        return Response(status_code=204, headers=TUS | {"Upload-Offset": str(offset)})

    def _tus_node(self, request: Request) -> str:
        if request.headers.get("tus-resumable") != "1.0.0":
            raise Refusal(412, "Tus-Resumable: 1.0.0 is needed")
        return self._node(request, {})


def _number(request: Request, name: str) -> int:
    raw = request.headers.get(name, "")
    if not raw.isascii() or not raw.isdigit() or len(raw) > 18:
        raise Refusal(400, f"{name}: a number is needed")
    return int(raw)


def node_routes(house: House) -> list[Route]:
    """Return the routes of the contract, the busiest first; those in `house.without` are left out (404)."""
    api = NodeApi(house)
    table: list[tuple[str, str, Callable[[Request], Awaitable[Response]], list[str]]] = [
        ("pull", "/jobs/pull", api.pull, ["POST"]),
        ("ack", "/jobs/ack", api.ack, ["POST"]),
        ("result", "/jobs/result", api.result, ["POST"]),
        ("progress", "/jobs/progress", api.progress, ["POST"]),
        ("fail", "/jobs/fail", api.fail, ["POST"]),
        ("heartbeat", "/nodes/heartbeat", api.heartbeat, ["POST"]),
        ("tus", "/uploads/{upload_id}", api.upload, ["HEAD", "PATCH", "DELETE"]),
        ("tus", "/uploads", api.uploads, ["OPTIONS", "POST"]),
        ("reconcile", "/jobs/reconcile", api.reconcile, ["POST"]),
        ("register", "/nodes/register", api.register, ["POST"]),
    ]
    return [
        Route("/api/v1" + path, endpoint, methods=methods)
        for feature, path, endpoint, methods in table
        if feature not in house.without
    ]
