"""`fsm-miner probe`: what this node can do, as the coordinator hears it."""

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fsm_miner import __version__
from fsm_miner.cli.options import CONFIG_DEFAULT, ConfigOption, JsonOption, settings
from fsm_miner.cli.outcome import ExitCode, Refused
from fsm_miner.cli.output import Cell, Screen, clean
from fsm_miner.config import Config, derive_node_id
from fsm_miner.config.files import FileRefused
from fsm_miner.probe import HostProbe, ThreadedInventory, descriptor, gpu_sources
from fsm_miner.site.cgroups import find_parent, isolation
from fsm_miner.site.host import host_tools
from runners.host import HostProblems

HELP = """Print what this node can do: the capability descriptor that it registers with.

CPU, memory, free disk, GPUs with their memory and driver, runners, tags. With --json, exactly what the
coordinator gets (section 7 of the specification). Works without a configuration file too; then the disk is
that of / and the runners are those of the default configuration. What is missing (a driver that does not
answer, a sandbox that can't be built) is said on standard error.
"""
EXAMPLES = """\
  fsm-miner probe
  fsm-miner probe --json | jq '.gpu[] | {name, vram_mb}'"""
EXIT_CODES = """\
  0  printed
  2  wrong usage or configuration
  3  the machine could not be looked at"""


def command(config: ConfigOption = None, as_json: JsonOption = False) -> int:
    """Print the descriptor; return the exit code."""
    loaded = None if config is None and not CONFIG_DEFAULT.exists() else settings(config)
    try:
        found, problems = describe(loaded)
    except OSError as error:
        raise Refused(ExitCode.HOST, f"this machine could not be looked at: {error}") from None
    for problem in problems:
        print(f"fsm-miner: {clean(problem)}", file=sys.stderr)  # noqa: T201 - this is the command line
    screen = Screen()
    if as_json:
        screen.json(found)
    else:
        screen.table(("", ""), rows(found))
    return ExitCode.OK


def describe(config: Config | None) -> tuple[dict[str, Any], list[str]]:
    """Return the descriptor, and a sentence for each thing that is not as it should be.

    Raises:
        OSError: /proc or the disk can't be looked at.

    """
    host = host_tools(config, copies=None)
    problems = list(host.problems) if isinstance(host, HostProblems) else []
    parent, _ = find_parent()
    gpus = asyncio.run(ThreadedInventory(gpu_sources()).read())
    found = descriptor(
        _node_id() if config is None else config.node_id,
        __version__,
        HostProbe(existing(Path("/") if config is None else config.workspace.root)).read(),
        gpus,
        runners=_runners(config),
        tags=() if config is None else config.tags,
        facts=isolation(None if isinstance(host, HostProblems) else host, parent),
    )
    return found, [*problems, *gpus.problems]


def existing(path: Path) -> Path:
    """Return `path`, or the nearest folder above it that is there: the file system it will be made in."""
    return next(folder for folder in (path, *path.parents) if folder.exists())


def _runners(config: Config | None) -> list[str]:
    if config is None:
        return ["cli", "python"]
    runners = config.runners
    return [name for name, on in (("cli", runners.cli.enable), ("python", runners.python.enable)) if on]


def _node_id() -> str:
    try:
        return derive_node_id()
    except FileRefused:
        return "node-unknown"


def rows(found: dict[str, Any]) -> Iterator[tuple[str | Cell, ...]]:
    """Yield the descriptor as rows for people."""
    cpu = found["cpu"]
    yield Cell("node", "bold"), found["node_id"]
    yield Cell("version", "bold"), found["version"]
    yield (
        Cell("cpu", "bold"),
        f"{cpu['cores']} cores, {cpu['arch']}{', ' + cpu['model'] if 'model' in cpu else ''}",
    )
    yield Cell("memory", "bold"), f"{found['memory_mb']} MiB"
    yield Cell("disk free", "bold"), f"{found['disk_free_mb']} MiB"
    for gpu in found["gpu"]:
        yield Cell(f"gpu {gpu['index']}", "bold"), _gpu(gpu)
    if not found["gpu"]:
        yield Cell("gpu", "bold"), "none"
    yield Cell("runners", "bold"), ", ".join(found["runners"]) or "none"
    yield Cell("tags", "bold"), ", ".join(found["tags"])


def _gpu(gpu: dict[str, Any]) -> str:
    driver = gpu["cuda"]["driver"] if "cuda" in gpu else gpu.get("driver")
    parts = [f"{gpu['vendor']} {gpu['name']}", f"{gpu['vram_free_mb']} of {gpu['vram_mb']} MiB free"]
    parts += [f"driver {driver}"] if driver else []
    parts += [f"CUDA {gpu['cuda']['version']}"] if gpu.get("cuda", {}).get("version") else []
    return ", ".join([*parts, gpu["uuid"]])
