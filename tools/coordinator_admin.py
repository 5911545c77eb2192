"""What tools and tests use: submit, look, wait, cancel, drain, spoil. Not part of the contract."""

import os
import time
from typing import Any

from coordinator_checks import Refusal, items, safe_path
from coordinator_faults import Faults, parse_fault
from coordinator_house import House, answer, bearer, json_body, json_value
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

__all__ = ["AdminApi"]

WAIT_S_MAX = 600
FILE_BYTES_MAX = 16 * 1024**3


class AdminApi:
    """Open on loopback; behind the bootstrap token elsewhere; never for a web page."""

    def __init__(self, house: House, faults: Faults) -> None:
        self._house = house
        self._faults = faults

    def _allow(self, request: Request) -> None:
        if "origin" in request.headers:
            raise Refusal(403, "web pages may not use the admin interface")
        if self._house.admin_needs_token and not self._house.nodes.is_bootstrap(bearer(request)):
            raise Refusal(401, "off loopback the admin interface needs the bootstrap token")

    async def jobs(self, request: Request) -> Response:
        """GET lists the newest jobs; POST queues one manifest, or a list of them."""
        self._allow(request)
        if request.method == "GET":
            limit = min(_seconds(request, "limit", 100), 10000)
            return answer({"jobs": self._house.views.jobs(request.query_params.get("state"), int(limit))})
        body = await json_value(request)
        ids = self._house.queue.submit(items(body, "jobs") if isinstance(body, list) else [body])
        return answer({"job_ids": ids} if isinstance(body, list) else {"job_id": ids[0]}, 201)

    async def job(self, request: Request) -> Response:
        """Everything about one job."""
        self._allow(request)
        return answer(self._house.views.job(request.path_params["job_id"]))

    async def job_file(self, request: Request) -> Response:
        """Serve a delivered file: `artifacts/<path>` or `logs/exec.log` of an attempt."""
        self._allow(request)
        part = request.path_params
        name = safe_path(f"{part['job_id']}/{part['attempt']}/{part['path']}")
        return _file(self._house.data / "results" / name)

    async def cancel(self, request: Request) -> Response:
        """Cancel a job."""
        self._allow(request)
        return answer({"state": self._house.queue.cancel(request.path_params["job_id"])})

    async def wait(self, request: Request) -> Response:
        """Wait until `job` (without it: every job) is over, up to `timeout` seconds."""
        self._allow(request)
        timeout_s = min(_seconds(request, "timeout", 30), WAIT_S_MAX)
        views, job_id = self._house.views, request.query_params.get("job")
        if job_id is None:
            over = await self._house.waiters.until(views.all_over, timeout_s)
            return answer({"over": over, "counts": views.counts()})
        over = await self._house.waiters.until(lambda: views.is_over(job_id), timeout_s)
        return answer(views.job(job_id) | {"over": over})

    async def nodes(self, request: Request) -> Response:
        """Every node, its descriptor, last heartbeat and standing commands."""
        self._allow(request)
        return answer({"nodes": self._house.nodes.list()})

    async def node(self, request: Request) -> Response:
        """`drain` (body `{"drain": false}` ends it), `commands` or `revoke` (its tokens) of a node."""
        self._allow(request)
        nodes, node_id, what = self._house.nodes, request.path_params["node_id"], request.path_params["what"]
        if what == "revoke":
            return answer({"revoked": nodes.revoke(node_id)})
        body = await json_body(request) if request.headers.get("content-length", "0") != "0" else {}
        if what == "drain":
            return answer(nodes.command(node_id, {"drain": body.get("drain", True) is True}))
        if what == "commands":
            return answer(nodes.command(node_id, body))
        raise Refusal(404, f"{what}: there are drain, commands and revoke")

    async def offers(self, request: Request) -> Response:
        """Queue a raw pull answer: `{"raw": job of any shape}` or `{"answer": whole body}`."""
        self._allow(request)
        body = await json_body(request)
        if ("raw" in body) == ("answer" in body):
            raise Refusal(
                422, "either `raw` (becomes the answer's `job`) or `answer` (the whole body) is needed"
            )
        self._house.queue.submit_raw({"job": body["raw"]} if "raw" in body else body["answer"])
        return answer({}, 201)

    async def outcomes(self, request: Request) -> Response:
        """All outcomes, raw offers' included."""
        self._allow(request)
        return answer({"outcomes": self._house.views.outcomes()})

    async def faults(self, request: Request) -> Response:
        """GET lists the scripted faults, POST adds one or a list, DELETE forgets all."""
        self._allow(request)
        if request.method == "POST":
            body = await json_value(request)
            for fault in [
                parse_fault(item) for item in (items(body, "faults") if isinstance(body, list) else [body])
            ]:
                self._faults.add(fault)
        elif request.method == "DELETE":
            self._faults.clear()
        return answer({"faults": self._faults.list()})

    async def stats(self, request: Request) -> Response:
        """Count jobs by state and calls that wait; tell the CPU seconds that this process has used."""
        self._allow(request)
        counts, waiting = self._house.views.counts(), self._house.waiters.waiting
        return answer(
            {"counts": counts, "waiting": waiting, "cpu_s": time.process_time(), "pid": os.getpid()}
        )

    async def files(self, request: Request) -> Response:
        """GET (open, for job inputs by URL; ranges work) and PUT below DIR/files."""
        path = self._house.data / "files" / safe_path(request.path_params["name"])
        if request.method != "PUT":
            return _file(path)
        self._allow(request)
        path.parent.mkdir(parents=True, exist_ok=True)
        size = 0
        staged = self._house.data / "incoming" / f"put-{os.urandom(8).hex()}"
        try:
            with staged.open("xb") as file:
                async for chunk in request.stream():
                    size += len(chunk)
                    if size > FILE_BYTES_MAX:
                        raise Refusal(413, f"a file of at most {FILE_BYTES_MAX} bytes is needed")
                    file.write(chunk)
            staged.replace(path)
        finally:
            staged.unlink(missing_ok=True)
        return answer({"url": str(request.url).partition("?")[0], "size": size}, 201)

    def routes(self) -> list[Route]:
        """Return the routes."""
        get, post = ["GET"], ["POST"]
        return [
            Route("/admin/wait", self.wait, methods=get),
            Route("/admin/jobs", self.jobs, methods=["GET", "POST"]),
            Route("/admin/jobs/{job_id}", self.job, methods=get),
            Route("/admin/jobs/{job_id}/cancel", self.cancel, methods=post),
            Route("/admin/jobs/{job_id}/files/{attempt:int}/{path:path}", self.job_file, methods=get),
            Route("/admin/nodes", self.nodes, methods=get),
            Route("/admin/nodes/{node_id}/{what}", self.node, methods=post),
            Route("/admin/offers", self.offers, methods=post),
            Route("/admin/outcomes", self.outcomes, methods=get),
            Route("/admin/faults", self.faults, methods=["GET", "POST", "DELETE"]),
            Route("/admin/stats", self.stats, methods=get),
            Route("/files/{name:path}", self.files, methods=["GET", "PUT"]),
        ]


def _file(path: Any) -> Response:
    if not path.is_file():
        raise Refusal(404, "no such file")
    return FileResponse(path)


def _seconds(request: Request, name: str, default: float) -> float:
    try:
        value = float(request.query_params.get(name, default))
    except ValueError as error:
        raise Refusal(422, f"{name}: a number is needed") from error
    if not 0 <= value < 1e9:
        raise Refusal(422, f"{name}: a number from 0 is needed")
    return value
