"""`make run`: a coordinator and a daemon to play with, until Ctrl-C.

Everything lies in build/run/ and is kept: a job that runs when you press Ctrl-C goes on, and the next `make run`
finds it again.
"""

import argparse
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from demo_node import LocalNode, Places, Trouble, write_config
from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
LISTEN = "127.0.0.1:8787"
EXIT_UNABLE = 2
_LOOK_EVERY_S = 0.3
_STYLES = {"warning": "yellow", "error": "red", "debug": "dim"}


def lines_of(log: Path, start: int) -> Iterator[bytes]:
    """Yield what is appended to `log` from byte `start` on: whole lines, and nothing (b"") while there is none."""
    rest = b""
    while True:
        try:
            with log.open("rb") as file:
                file.seek(start)
                text = rest + file.read()
                start = file.tell()
        except FileNotFoundError:
            text = rest
        *whole, rest = text.split(b"\n")
        yield from whole
        yield b""


def readable(line: bytes) -> Text:
    """Return a JSON line of the daemon's log as people read it; anything else as it is, made harmless."""
    try:
        record: dict[str, Any] = json.loads(line)
        time_text, level, event = record["ts"][11:23], str(record["level"]), str(record["event"])
        attrs = {"job": record["job_id"], **record["attrs"]}
    except (ValueError, KeyError, TypeError):
        return Text(ascii(line.decode(errors="replace"))[1:-1], style="dim")
    words = (f"{name}={_word(value)}" for name, value in attrs.items() if value not in (None, [], {}))
    return Text(f"{time_text} {level:7} {event}  {' '.join(words)}", style=_STYLES.get(level, ""))


def _word(value: Any) -> str:
    return value if isinstance(value, str) and value.isprintable() and " " not in value else json.dumps(value)


def _welcome(console: Console, node: LocalNode) -> None:
    submit = ".venv/bin/python tools/submit.py"
    config = node.places.config
    console.print(
        f"""
coordinator  {node.base_url}
status page  {node.health_url}/healthz   {node.health_url}/metrics
everything   {node.places.root}

In another terminal, from the repository's folder:

  export MINER_AUTH={node.token} FSM_MINER_CONFIG={config}
  {submit} run --wait --artifact output.txt:text/plain -- echo hello world
  {submit} run --wait --out build --input clip.mp4 --artifact output.mp4:video/mp4 -- ffmpeg -y -i clip.mp4 output.mp4
  {submit} run --wait --task example
  {submit} list
  .venv/bin/fsm-miner jobs
  .venv/bin/fsm-miner replay JOB

Ctrl-C ends both. A running job goes on; the next `make run` finds it again.
""",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def _follow(console: Console, node: LocalNode, start: int) -> None:
    """Show the daemon's log until one of the processes ends.

    Raises:
        Trouble: one did.

    """
    for line in lines_of(node.places.logs / "miner.jsonl", start):
        if line:
            console.print(readable(line), soft_wrap=True)
            continue
        for name, process in (("coordinator", node.coordinator), ("miner", node.miner)):
            if process is not None and process.poll() is not None:
                raise Trouble(
                    f"the {name} ended with {process.returncode}; see {node.places.logs / name}.err"
                )
        time.sleep(_LOOK_EVERY_S)


def _interrupt(_number: int, _frame: Any) -> NoReturn:
    raise KeyboardInterrupt


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dir", type=Path, default=ROOT / "build" / "run", help="kept between runs")
    parser.add_argument("--listen", default=LISTEN, help=f"the coordinator's address (default: {LISTEN})")
    options = parser.parse_args()
    console = Console()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    folder: Path = options.dir.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    node = LocalNode(Places(folder), os.environ.get("MINER_AUTH") or secrets.token_urlsafe(24))
    log = node.places.logs / "miner.jsonl"
    start = log.stat().st_size if log.exists() else 0
    try:
        base_url = node.start_coordinator(options.listen)
        write_config(
            node.places, base_url, node_id="node-local", allowlist=ROOT / "allowlist.d", tasks=ROOT / "tasks"
        )
        node.start_miner()
        _welcome(console, node)
        _follow(console, node, start)
    except (Trouble, OSError, subprocess.SubprocessError) as error:
        console.print(str(error), style="red", markup=False, highlight=False)
        return EXIT_UNABLE
    except KeyboardInterrupt:
        console.print("ending the daemon, then the coordinator; running jobs go on", style="yellow")
        return 0
    finally:
        node.stop(end_jobs=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
