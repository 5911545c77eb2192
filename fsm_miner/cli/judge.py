"""`fsm-miner judge`: whether this node would run a job, and within which limits."""

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from fsm_miner.cli.options import ConfigOption, JsonOption, settings
from fsm_miner.cli.outcome import ExitCode, Refused
from fsm_miner.cli.output import Cell, Screen
from fsm_miner.cli.probe import existing
from fsm_miner.config import Config
from fsm_miner.config.files import FileRefused, read_small_file
from fsm_miner.manifest import Manifest, parse_offer
from fsm_miner.manifest_models import TIMEOUT_MAX_S
from fsm_miner.probe import HostProbe, ThreadedInventory, gpu_sources
from fsm_miner.site.checks import Checks, Verdict
from fsm_miner.workspace import free_bytes
from runners.allowlist import Allowlist, load
from states.admission import Capacity, Card, never
from states.codes import Failure

HELP = """Say whether this node would run a job, and within which limits. Runs nothing.

Either a command line after `--`, as a job's `command` and `args` would have it; or, with --manifest, a whole
manifest, as the coordinator would send it; it may lack the `job_id`. Judged is what the daemon judges before a run,
by the configuration and the allowlist files as they are now: the manifest's form, the runner, the command and its
arguments, the program, the environment, the network, cores, memory, disk and card. Not judged: signature, and
whether inputs can be fetched.
"""
EXAMPLES = """\
  fsm-miner judge -- sort -r -n numbers.txt        would this command be allowed?
  fsm-miner judge --manifest job.json              would this job be taken?
  some-command | fsm-miner judge --manifest -      the manifest from standard input
  fsm-miner judge --json -- ffmpeg -i a.mp4 output.mkv | jq .error_msg"""
EXIT_CODES = """\
  0  it would run
  1  it would not; the answer says why
  2  wrong usage or configuration, or an unreadable file"""

_MANIFEST_BYTES_MAX = 4 * 1024 * 1024
_STDIN = Path("-")


def command(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="-- COMMAND ARGS", help="A command line to judge.", show_default=False),
    ] = None,
    manifest: Annotated[
        Path | None,
        typer.Option(
            "--manifest",
            metavar="FILE",
            help="Judge the manifest in this file (JSON); - is standard input.",
            show_default=False,
            readable=False,  # whoever opens it says more than that it can't be read
        ),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> int:
    """Judge a job; return the exit code."""
    if (manifest is None) == (not words):
        raise Refused(ExitCode.USAGE, "judge what? Give a command after --, or --manifest FILE, one of both")
    answer = judge(settings(config), _of(words) if words else _read(manifest or _STDIN))
    screen = Screen()
    if as_json:
        screen.json(_as_data(answer))
    elif isinstance(answer, Failure):
        screen.say(Cell("no", "bold red"), f": {answer.code}: {answer.message}")
    else:
        screen.say(Cell("yes", "bold green"), f": {answer.program}")
        screen.say(
            f"within {answer.time_limit_s:.0f} s, {answer.memory_limit_mb} MiB of memory, "
            f"{answer.output_limit_mb} MiB of output"
        )
    return ExitCode.NO if isinstance(answer, Failure) else ExitCode.OK


def judge(config: Config, raw: Any) -> Verdict | Failure:
    """Return what the daemon would make of the manifest `raw` on this machine, now. It may lack an id."""
    if isinstance(raw, dict):
        fields = cast("dict[Any, Any]", raw)
        raw = {**fields, "job_id": "judged"} if fields.get("job_id") is None else fields
    offer = parse_offer(raw)
    if offer.manifest is None:
        assert offer.problem is not None
        return offer.problem
    facts = HostProbe(existing(config.workspace.root)).read()
    checks = Checks(
        config,
        lambda: allowlist(config),
        cores=facts.cores,
        memory_mb=facts.memory_mb,
        free_bytes=lambda path: free_bytes(existing(path)),
    )
    return _slot(config, offer.manifest) or checks.judge(offer.manifest)


def allowlist(config: Config) -> Allowlist:
    """Return the rules as the files have them now; mistakes in them are `fsm-miner check`'s to tell."""
    return load([str(path) for path in config.runners.cli.allowlist_files]).allowlist


def _slot(config: Config, manifest: Manifest) -> Failure | None:
    wants, resources = manifest.requirements, config.resources
    cards: tuple[Card, ...] = ()
    if wants.gpu:
        reading = asyncio.run(ThreadedInventory(gpu_sources()).read())
        cards = tuple(Card(gpu.id, gpu.vram_mb, gpu.vram_free_mb) for gpu in reading.gpus)
    capacity = Capacity(resources.max_concurrent_cpu, resources.max_concurrent_gpu, cards)
    return never(capacity, gpu=wants.gpu, vram_mb=wants.vram_mb)


def _of(words: Sequence[str]) -> dict[str, Any]:
    program, *args = words
    return {
        "runner": "cli",
        "command": program,
        "args": args,
        "timeout_s": TIMEOUT_MAX_S,  # so that the rule's own limit shows
    }


def _read(path: Path) -> Any:
    try:
        if path == _STDIN:
            raw = sys.stdin.buffer.read(_MANIFEST_BYTES_MAX + 1)
            if len(raw) > _MANIFEST_BYTES_MAX:
                raise Refused(ExitCode.USAGE, "-: more than 4 MiB")
        else:
            raw = read_small_file(path, _MANIFEST_BYTES_MAX).content
        return json.loads(raw)
    except FileRefused as error:
        raise Refused(ExitCode.USAGE, str(error)) from None
    except OSError as error:
        raise Refused(ExitCode.USAGE, f"standard input: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise Refused(ExitCode.USAGE, f"{path}: not JSON: {error}") from None


def _as_data(answer: Verdict | Failure) -> dict[str, Any]:
    if isinstance(answer, Failure):
        return {"runs": False, "error_code": str(answer.code), "error_msg": answer.message}
    return {
        "runs": True,
        "program": answer.program,
        "time_limit_s": answer.time_limit_s,
        "memory_limit_mb": answer.memory_limit_mb,
        "output_limit_mb": answer.output_limit_mb,
    }
