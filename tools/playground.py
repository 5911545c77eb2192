"""Start a coordinator and a daemon to play with, and follow what they log until Ctrl-C. See `--help`."""

import argparse
import json
import secrets
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from demo_node import LocalNode, Places, Trouble, write_config
from demo_screen import plain

from fsm_miner.instance import find_running

ROOT = Path(__file__).resolve().parent.parent
LISTEN = "127.0.0.1:8787"
POLL_S = 0.2
LINE_CHARS_MAX = 200
FOLLOWED_BYTES_MAX = 1024 * 1024

HELP = """Start a dev coordinator and a daemon to play with, and follow what they log.

Everything lies in build/run/ and is kept: queue, journal, results, and the configuration, which may be edited.
Kill either with `kill -9`: it is started again, and goes on where it was. Ctrl-C stops both. A job that runs then
goes on by itself; the next `make run` finds it and delivers it."""


@dataclass(slots=True)
class Follower:
    """Reads what is appended to a file, by whole lines."""

    path: Path
    at: int = 0
    rest: bytes = b""

    @classmethod
    def from_end(cls, path: Path) -> "Follower":
        """Follow from what is there now."""
        return cls(path, path.stat().st_size if path.exists() else 0)

    def lines(self) -> Iterator[str]:
        """Yield the lines that came since; of a file that was rotated, from its beginning."""
        try:
            with self.path.open("rb") as file:
                if file.seek(0, 2) < self.at:
                    self.at, self.rest = 0, b""
                file.seek(self.at)
                data = file.read(FOLLOWED_BYTES_MAX)
        except FileNotFoundError:
            return
        self.at += len(data)
        *whole, self.rest = (self.rest + data).split(b"\n")
        for line in whole:
            yield line.decode("utf-8", "replace")


def readable(line: str) -> str:
    """Return a line of the daemon's JSON log for people; what is no such line, as it is."""
    try:
        record: Any = json.loads(line)
        when, event, attrs = record["ts"][11:19], record["event"], dict(record["attrs"])
    except (ValueError, KeyError, TypeError):
        return plain(line)[:LINE_CHARS_MAX]
    if event == "job_state":
        what = f"{record['job_id']}: {attrs.pop('source', '?')} > {attrs.pop('dest', '?')}"
        attrs = {name: attrs[name] for name in ("code", "message") if name in attrs}
    else:
        what = f"{event} {record['job_id']}" if record.get("job_id") else str(event)
    told = " ".join(f"{name}={value}" for name, value in attrs.items() if name != "sha256")
    level = "" if record.get("level") == "info" else f"{str(record.get('level')).upper()} "
    return plain(f"{when} {level}{what}  {told}".rstrip())[:LINE_CHARS_MAX]


def _greet(node: LocalNode) -> None:
    root = node.base_url.removesuffix("/api/v1")
    submit = (
        "python tools/submit.py" if root == f"http://{LISTEN}" else f"python tools/submit.py --url {root}"
    )
    config = _short(node.places.config)
    assert node.coordinator is not None
    assert node.miner is not None
    print(f"""
coordinator   {node.base_url}   (its data: {_short(node.places.coordinator)})
daemon        {node.health_url}/healthz   (configuration: {config})

For another terminal (the token is this start's):
export MINER_AUTH={shlex.quote(node.token)}
export FSM_MINER_CONFIG={shlex.quote(str(node.places.config))}

Hand in jobs there, in .venv or with .venv/bin/python:
  {submit} run --wait -- echo hello world
  {submit} run --input in.mp4 --artifact out.mp4:video/mp4 --out results -- ffmpeg -y -i in.mp4 -c:v libx264 out.mp4
  {submit} run --task loudness --param file=in.mp4 --input in.mp4 --artifact result.json --out results
  {submit} list
And look from the node's side:
  fsm-miner jobs
  fsm-miner replay JOB
Kill either while a job runs; it is started again here:
  kill -9 {node.miner.pid}   (the daemon)
  kill -9 {node.coordinator.pid}   (the coordinator)

Ctrl-C stops both.
""")


def _follow(node: LocalNode, followers: dict[str, Follower]) -> NoReturn:
    listen = node.base_url.removeprefix("http://").removesuffix("/api/v1")
    while True:
        for name, follower in followers.items():
            for line in follower.lines():
                print(f"{name:<12}{readable(line)}", flush=True)
        # The coordinator first: without it, a daemon that starts can't register.
        if _killed("coordinator", node.coordinator, node.places):
            node.start_coordinator(listen)
            _started_again("coordinator", node.coordinator)
        if _killed("daemon", node.miner, node.places):
            node.start_miner()
            _started_again("daemon", node.miner)
        time.sleep(POLL_S)


def _killed(name: str, process: "subprocess.Popen[bytes] | None", places: Places) -> bool:
    """Return whether a signal has ended the process.

    Raises:
        Trouble: it has ended by itself; it would again.

    """
    if process is None or process.poll() is None:
        return False
    if process.returncode >= 0:
        raise Trouble(f"the {name} ended with status {process.returncode}; see {places.logs}")
    print(
        f"{'playground':<12}the {name} was ended by signal {-process.returncode}: starting it again",
        flush=True,
    )
    return True


def _started_again(name: str, process: "subprocess.Popen[bytes] | None") -> None:
    assert process is not None
    print(f"{'playground':<12}the {name} works again, as process {process.pid}", flush=True)


def _start(node: LocalNode, listen: str) -> dict[str, Follower]:
    places = node.places
    if (other := find_running(places.miner)) is not None:
        raise Trouble(f"{places.root}: a daemon runs there already, as process {other.pid}; stop it first")
    followers = {
        "coordinator": Follower.from_end(places.logs / "coordinator.err"),
        "daemon": Follower.from_end(places.logs / "miner.jsonl"),
    }
    base_url = node.start_coordinator(listen)
    if not places.config.exists():
        allowlist, tasks = ROOT / "allowlist.d", ROOT / "tasks"
        write_config(places, base_url, node_id="node-playground", allowlist=allowlist, tasks=tasks)
    elif base_url not in places.config.read_text(encoding="utf-8"):
        raise Trouble(
            f"{places.config}: is for another address than {base_url}; correct or remove it, or use another --listen"
        )
    node.start_miner()
    return followers


def _short(path: Path) -> Path:
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _interrupt(_number: int, _frame: Any) -> NoReturn:
    raise KeyboardInterrupt


def main() -> int:
    """Run until Ctrl-C. Exit status: 0 stopped, 1 one of the two ended by itself or did not start."""
    parser = argparse.ArgumentParser(description=HELP, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--dir", type=Path, default=ROOT / "build" / "run", help="kept between runs (default: build/run)"
    )
    parser.add_argument("--listen", default=LISTEN, help="the coordinator's address (default: %(default)s)")
    options = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    folder: Path = options.dir.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    node = LocalNode(Places(folder), secrets.token_urlsafe(12))
    running = 0
    try:
        followers = _start(node, options.listen)
        _greet(node)
        _follow(node, followers)
    except (Trouble, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopping the daemon, then the coordinator ...", flush=True)
        running = len(node.living_runs())
        return 0
    finally:
        node.stop(end_jobs=False)
        if running:
            print(
                f"{running} running job(s) go on by themselves; the next start takes them up again",
                flush=True,
            )


if __name__ == "__main__":
    sys.exit(main())
