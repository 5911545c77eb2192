"""The coordinator of section 16 of the specification, with exactly its semantics and nothing more.

    python mock_coordinator.py FOLDER

One job, handed out at every pull. `ack` reads query parameters, `result` takes the form fields `job_id` and
`metadata` and one file `artifact` (the last one, where several come); each is 422 without them. Everything else
is 404. FOLDER/url says where it listens; FOLDER/calls.jsonl gets a line for each call.
"""

import asyncio
import json
import socket
import sys
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

JOB = {
    "job_id": "j-local-1",
    "runner": "cli",
    "requirements": {"gpu": False},
    "timeout_s": 120,
    "command": "echo",
    "args": ["hello", "world"],
    "artifacts": [{"path": "output.txt", "type": "text/plain", "max_mb": 1}],
}


class Mock:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def note(self, **call: Any) -> None:
        with (self.folder / "calls.jsonl").open("a") as file:
            file.write(json.dumps(call) + "\n")

    async def pull(self, request: Request) -> Response:
        body = await request.json()
        self.note(call="pull")
        if not isinstance(body.get("node_id"), str) or not isinstance(body.get("filters"), dict | None):
            return JSONResponse({"detail": "PullReq"}, 422)
        return JSONResponse({"job": JOB})

    async def ack(self, request: Request) -> Response:
        query = request.query_params
        self.note(call="ack", query=dict(query))
        if "job_id" not in query or "node_id" not in query:
            return JSONResponse({"detail": "job_id and node_id are needed in the query"}, 422)
        return JSONResponse({"ok": True})

    async def result(self, request: Request) -> Response:
        async with request.form() as form:
            job_id, metadata, artifact = (form.get(name) for name in ("job_id", "metadata", "artifact"))
            good = isinstance(job_id, str) and isinstance(metadata, str) and isinstance(artifact, UploadFile)
            if not good:
                self.note(call="result", good=False, fields=list(form))
                return JSONResponse({"detail": "job_id, metadata, artifact"}, 422)
            text = (await artifact.read()).decode()
            self.note(
                call="result",
                good=True,
                idempotency_key=request.headers.get("idempotency-key"),
                job_id=job_id,
                metadata=json.loads(metadata),
                name=artifact.filename,
                content=text,
            )
        return JSONResponse({"ok": True})


async def serve(folder: Path) -> None:
    mock = Mock(folder)
    routes = [
        Route("/api/v1/jobs/pull", mock.pull, methods=["POST"]),
        Route("/api/v1/jobs/ack", mock.ack, methods=["POST"]),
        Route("/api/v1/jobs/result", mock.result, methods=["POST"]),
    ]
    listener = socket.create_server(("127.0.0.1", 0))
    staged = folder / "url.new"
    staged.write_text(f"http://127.0.0.1:{listener.getsockname()[1]}/api/v1")
    staged.replace(folder / "url")
    config = uvicorn.Config(Starlette(routes=routes), log_level="warning", access_log=False)
    await uvicorn.Server(config).serve([listener])


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
