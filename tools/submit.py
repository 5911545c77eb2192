"""Hand jobs to the dev coordinator and look after them. `submit.py --help` teaches it by examples."""

import hashlib
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated, Any, NoReturn
from urllib.parse import quote

import httpx
import typer
from coordinator_checks import Refusal, mapping, safe_path
from rich.console import Console
from rich.table import Table
from submit_waits import why_no_node
from typer.core import TyperGroup

EXIT_FAILED, EXIT_USAGE, EXIT_UNREACHABLE = 1, 2, 3
FINAL = frozenset({"done", "failed", "cancelled"})
POLL_S = 1.0

HELP = """Hand jobs to the dev coordinator.

Examples:

  submit.py job.json --wait                     a manifest from a file (or - for standard input)

  submit.py run --wait -- echo hello world      a command; what it prints becomes output.txt

  submit.py run --input in.mp4 --artifact out.mp4:video/mp4:500 --wait --out results -- ffmpeg -y -i in.mp4 out.mp4

  submit.py run --task example --param algorithm=sha512   a Python task with parameters (JSON, else text)

  submit.py list · show JOB · cancel JOB

Off loopback the coordinator wants its bootstrap token, from the variable MINER_AUTH.

Exit status: 0 done (or submitted), 1 failed, 2 wrong usage or refused, 3 the coordinator is not reachable.
"""


class ManifestByDefault(TyperGroup):
    """Take `submit.py FILE` for `submit.py manifest FILE`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the command's name in front of a file's."""
        takes_value = {"--url"}
        index = 0
        while index < len(args) and args[index].startswith("--"):
            index += 2 if args[index] in takes_value else 1
        if index < len(args) and args[index] not in self.commands:
            args = [*args[:index], "manifest", *args[index:]]
        return super().parse_args(ctx, args)


app = typer.Typer(cls=ManifestByDefault, help=HELP, no_args_is_help=True, add_completion=False)


@dataclass(slots=True)
class Remote:
    """The coordinator's admin interface. Every trouble ends the program with its exit status."""

    root: str
    client: httpx.Client
    errors: Console

    def call(self, method: str, path: str, **more: Any) -> Any:
        """Make one call and decode its JSON."""
        return self._try(lambda: self.client.request(method, self.root + path, **more)).json()

    def fetch(self, path: str, target: Path) -> None:
        """Save a file."""
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:
            self._try(lambda: self._stream(path, file))

    def _stream(self, path: str, file: IO[bytes]) -> httpx.Response:
        with self.client.stream("GET", self.root + path) as answer:
            if answer.is_success:
                file.writelines(answer.iter_bytes())
            else:
                answer.read()
            return answer

    def stop(self, message: str, status: int) -> NoReturn:
        """End with a message."""
        self.errors.print(message, style="red", markup=False, highlight=False)
        raise typer.Exit(status)

    def _try(self, call: Callable[[], httpx.Response]) -> httpx.Response:
        try:
            answer = call()
        except httpx.HTTPError as error:
            self.stop(
                f"{self.root}: not reachable: {error}; is dev_coordinator.py running there?", EXIT_UNREACHABLE
            )
        if answer.status_code >= 500:
            self.stop(f"{self.root}: answers {answer.status_code}", EXIT_UNREACHABLE)
        if answer.status_code >= 400:
            self.stop(f"refused ({answer.status_code}): {answer.text[:2000]}", EXIT_USAGE)
        return answer


@dataclass(frozen=True, slots=True)
class After:
    """What to do once a job is submitted."""

    wait: bool
    out: Path | None
    as_json: bool


Wait = Annotated[bool, typer.Option("--wait", help="Wait for the outcome, showing progress.")]
Out = Annotated[
    Path | None, typer.Option(file_okay=False, help="Save the artifacts in this folder (implies --wait).")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


@app.callback()
def connect(
    ctx: typer.Context,
    url: Annotated[
        str, typer.Option(envvar="COORDINATOR_URL", help="The coordinator's URL.")
    ] = "http://127.0.0.1:8787/api/v1",
) -> None:
    """Open the connection. Off loopback the bootstrap token is needed, in MINER_AUTH, never as an argument."""
    token = os.environ.get("MINER_AUTH")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    client = ctx.with_resource(httpx.Client(timeout=60, headers=headers, trust_env=False))
    ctx.obj = Remote(url.rstrip("/").removesuffix("/api/v1"), client, Console(stderr=True))


@app.command("manifest")
def submit_manifest(
    ctx: typer.Context,
    file: Annotated[str, typer.Argument(metavar="MANIFEST.json|-")],
    wait: Wait = False,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Submit a manifest (the word `manifest` may be left out)."""
    remote: Remote = ctx.obj
    try:
        manifest = json.loads(sys.stdin.read() if file == "-" else Path(file).read_text())
    except (OSError, ValueError) as error:
        remote.stop(f"{file}: cannot be read as JSON: {error}", EXIT_USAGE)
    if not isinstance(manifest, dict):
        remote.stop(f"{file}: a manifest is a JSON object", EXIT_USAGE)
    _submit(remote, mapping(manifest), After(wait, out, as_json))


@app.command("run")
def run_command(
    ctx: typer.Context,
    command: Annotated[list[str] | None, typer.Argument(metavar="-- COMMAND ARGS...")] = None,
    task: Annotated[str | None, typer.Option(help="A Python task instead of a command.")] = None,
    param: Annotated[list[str] | None, typer.Option(metavar="K=V", help="A task's parameter.")] = None,
    inputs: Annotated[list[Path] | None, typer.Option("--input", help="A file that the job gets.")] = None,
    artifact: Annotated[
        list[str] | None, typer.Option(metavar="PATH[:TYPE[:MAX_MB]]", help="To deliver.")
    ] = None,
    gpu: Annotated[bool, typer.Option("--gpu", help="Needs a GPU.")] = False,
    vram_mb: Annotated[int | None, typer.Option(min=0, help="Free GPU memory it needs, MiB.")] = None,
    timeout: Annotated[int, typer.Option(min=1, help="Seconds.")] = 600,
    priority: Annotated[int, typer.Option(help="Higher goes first.")] = 0,
    queue: Annotated[str | None, typer.Option(help="latency or throughput.")] = None,
    wait: Wait = False,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Submit a command, or a task, without writing a manifest."""
    remote: Remote = ctx.obj
    if bool(command) == (task is not None) or (param and task is None):
        remote.stop("either `-- COMMAND ARGS...` or `--task NAME [--param k=v]...` is needed", EXIT_USAGE)
    manifest: dict[str, Any] = {"timeout_s": timeout, "priority": priority}
    if command:
        manifest |= {"runner": "cli", "command": command[0], "args": command[1:]}
    else:
        manifest |= {"runner": "python", "task": task, "params": dict(_param(remote, p) for p in param or [])}
    if gpu or vram_mb is not None:
        manifest["requirements"] = {"gpu": True, "vram_mb": vram_mb or 0}
    if queue is not None:
        manifest["queue"] = queue
    declared = [_artifact(remote, text) for text in artifact or []]
    # the contract hands standard output to the one text/plain artifact that the command did not write
    default = [{"path": "output.txt", "type": "text/plain", "max_mb": 16}] if command else []
    manifest["artifacts"] = declared or default
    if inputs:
        manifest["input"] = {"urls": [_upload(remote, path) for path in inputs]}
    _submit(remote, mapping(manifest), After(wait, out, as_json))


@app.command("list")
def list_jobs(
    ctx: typer.Context,
    state: Annotated[str | None, typer.Option(help="Only those in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10000)] = 30,
    as_json: AsJson = False,
) -> None:
    """List the newest jobs."""
    remote: Remote = ctx.obj
    params = {"limit": limit} | ({"state": state} if state else {})
    jobs = remote.call("GET", "/admin/jobs", params=params)["jobs"]
    if as_json:
        print(json.dumps(jobs))
        return
    columns = ("job_id", "state", "attempt", "runner", "node_id", "reason")
    table = Table(*columns)
    for job in jobs:
        table.add_row(*(_plain(job[name]) for name in columns))
    Console().print(table)


@app.command("show")
def show_job(ctx: typer.Context, job: str, as_json: AsJson = False) -> None:
    """Show everything about one job."""
    remote: Remote = ctx.obj
    view = remote.call("GET", f"/admin/jobs/{quote(job, safe='')}")
    if as_json:
        print(json.dumps(view))
    else:
        Console().print_json(data=view)


@app.command("cancel")
def cancel_job(ctx: typer.Context, job: str) -> None:
    """Cancel a job: at once when it waits, through its node when it runs."""
    remote: Remote = ctx.obj
    state = remote.call("POST", f"/admin/jobs/{quote(job, safe='')}/cancel")["state"]
    print(f"{job}: {'its node is told to stop' if state == 'leased' else state}")


def _submit(remote: Remote, manifest: dict[str, Any], after: After) -> None:
    job_id: str = remote.call("POST", "/admin/jobs", json=manifest)["job_id"]
    if not after.wait and after.out is None:
        print(json.dumps({"job_id": job_id}) if after.as_json else job_id)
        return
    view = _watch(remote, job_id)
    if after.out is not None:
        _save(remote, view, after.out)
    print(json.dumps(view) if after.as_json else _summary(view))
    if view["state"] != "done":
        raise typer.Exit(EXIT_FAILED)


def _watch(remote: Remote, job_id: str) -> dict[str, Any]:
    shown, told = 0, None
    with remote.errors.status(f"{job_id}: queued") as status:
        while True:
            view = remote.call("GET", "/admin/wait", params={"job": job_id, "timeout": POLL_S})
            for step in (step for step in view["progress"] if step["id"] > shown):
                shown = step["id"]
                percent = "" if step["pct"] is None else f"{step['pct']:3.0f} % "
                remote.errors.print(f"{percent}{_plain(step['note'])}", markup=False, highlight=False)
            if view["state"] == "queued":
                waits = why_no_node(view["manifest"], remote.call("GET", "/admin/nodes")["nodes"])
                if waits is not None and waits != told:
                    told = waits
                    remote.errors.print(f"{job_id}: queued: {_plain(waits)}", markup=False, highlight=False)
            status.update(f"{job_id}: {view['state']}, attempt {view['attempt']}")
            if view["state"] in FINAL:
                return view


def _summary(view: dict[str, Any]) -> str:
    lines = [f"{view['job_id']}: {view['state']} on {view['node_id']}, attempt {view['attempt']}"]
    last = view["outcomes"][-1] if view["outcomes"] else None
    if last is not None and last["kind"] == "fail":
        lines.append(f"  {_plain(last['body']['error_code'])}: {_plain(last['body']['error_msg'])}")
    elif view["state"] != "done" and view["reason"]:
        lines.append(f"  {_plain(view['reason'])}")
    lines += [f"  {_plain(a['path'])}  {a['size']} bytes" for a in view["artifacts"]]
    return "\n".join(lines)


def _save(remote: Remote, view: dict[str, Any], out: Path) -> None:
    if view["state"] != "done":
        return
    names = [f"artifacts/{artifact['path']}" for artifact in view["artifacts"]]
    for name in names:
        path = f"/admin/jobs/{view['job_id']}/files/{view['attempt']}/{quote(safe_path(name))}"
        remote.fetch(path, out / name.removeprefix("artifacts/"))


def _upload(remote: Remote, path: Path) -> dict[str, str]:
    """Put a file where the node can fetch it; the name in the URL carries its hash, so names never clash."""
    try:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            name = f"{sha256[:16]}/{safe_path(path.name)}"
            answer = remote.call("PUT", f"/files/{quote(name)}", content=file)
    except (OSError, Refusal) as error:
        remote.stop(f"--input {path}: {error}", EXIT_USAGE)
    return {"url": answer["url"], "sha256": sha256, "name": path.name}


def _artifact(remote: Remote, text: str) -> dict[str, Any]:
    path, _, rest = text.partition(":")
    kind, _, max_mb = rest.partition(":")
    if not path or (max_mb and not max_mb.isdecimal()):
        remote.stop(f"--artifact {text}: PATH[:TYPE[:MAX_MB]] is needed", EXIT_USAGE)
    return {"path": path, "type": kind or "application/octet-stream", "max_mb": int(max_mb or 1024)}


def _param(remote: Remote, text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        remote.stop(f"--param {text}: K=V is needed", EXIT_USAGE)
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _plain(value: Any) -> str:
    """Make what came from a job safe for a terminal."""
    text = "" if value is None else str(value)
    return "".join(c if c.isprintable() else "·" for c in text)


if __name__ == "__main__":
    app()
