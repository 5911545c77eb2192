"""`fsm-miner status`: how the running daemon is doing."""

from collections.abc import Iterator
from typing import Any

from fsm_miner.cli.health_page import NoAnswer, health, jobs_of, mapping_of, number_of, texts_of
from fsm_miner.cli.options import ConfigOption, JsonOption, settings
from fsm_miner.cli.outcome import ExitCode
from fsm_miner.cli.output import Cell, Screen
from fsm_miner.cli.running import NOT_RUNNING, listen_url, page_of
from fsm_miner.cli.timeline import state_cell
from fsm_miner.config import Config
from fsm_miner.instance import find_running
from fsm_miner.words import counted, span

HELP = """Ask the running daemon how it is doing.

It is found by its lock in the state folder (the journal's); where that can't be looked into, the page at
health.listen is asked, if it is this node's. --json prints the page's JSON, with the process id.
"""
EXAMPLES = """\
  fsm-miner status
  fsm-miner status --json | jq .trouble
  fsm-miner status > /dev/null || echo "look at this node\""""
EXIT_CODES = """\
  0  it runs, and all is well
  1  it does not run, does not answer, or something is not as it should be
  2  wrong usage or configuration"""

_SHOWN_MAX = 500


def command(config: ConfigOption = None, as_json: JsonOption = False) -> int:
    """Show the status; return the exit code."""
    found = ask(settings(config))
    screen = Screen()
    if as_json:
        screen.json(found)
    else:
        show(screen, found)
    return ExitCode.OK if found.get("status") == "ok" else ExitCode.NO


def ask(config: Config) -> dict[str, Any]:
    """Return the daemon's status page, or what stands in for it when there is no daemon or no answer."""
    try:
        running = find_running(config.state_dir)
    except OSError as error:
        return _from_outside(config, f"{config.state_dir}: {error.strerror}: try sudo")
    if running is None:
        return {"status": "not running", "trouble": [f"{config.state_dir}: {NOT_RUNNING}"]}
    try:
        return {**page_of(running), "pid": running.pid}
    except NoAnswer as error:
        return {"status": "unknown", "trouble": [str(error)], "pid": running.pid}


def _from_outside(config: Config, hidden: str) -> dict[str, Any]:
    """Ask at `health.listen`, where the lock can't be looked at: `hidden` says why."""
    url = listen_url(config)
    trouble = [hidden]
    if url is not None:
        try:
            page = health(url)
        except NoAnswer as error:
            trouble = [str(error), hidden]
        else:
            if page.get("node_id") == config.node_id:
                return page
            trouble = [f"{url}/healthz: the page of another node: {page.get('node_id')}", hidden]
    return {"status": "unknown", "trouble": trouble}


def show(screen: Screen, found: dict[str, Any]) -> None:
    """Write the status for people."""
    status = str(found.get("status"))
    screen.say(Cell(status, "bold green" if status == "ok" else "bold red"), _who(found))
    for trouble in texts_of(found, "trouble")[:_SHOWN_MAX]:
        screen.say("  ", Cell(f"! {trouble}", "red"))
    if "node_id" in found:
        screen.table(("", ""), _rows(found))
        jobs = jobs_of(found)
        if jobs:
            screen.say("")
            screen.table(
                ("JOB", ">ATTEMPT", "STATE", ">RUN"),
                [
                    (
                        str(job.get("job_id")),
                        str(job.get("attempt")),
                        state_cell(str(job.get("state"))),
                        str(job.get("run")),
                    )
                    for job in jobs[:_SHOWN_MAX]
                ],
            )
            if len(jobs) > _SHOWN_MAX:
                screen.say(f"and {len(jobs) - _SHOWN_MAX} more: --json has them all")


def _who(found: dict[str, Any]) -> str:
    if "node_id" not in found:
        return ""
    process = f", process {found['pid']}" if "pid" in found else ""
    return f"  {found['node_id']}, version {found.get('version')}, up {span(number_of(found, 'uptime_s'))}{process}"


def _rows(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    slots, waiting = mapping_of(found, "slots"), mapping_of(found, "outbox").get("waiting")
    cards = found.get("gpus")
    yield "registered", "yes" if found.get("registered") else "no"
    yield "draining", "yes: `fsm-miner drain --off` takes it back" if found.get("draining") else "no"
    yield (
        "jobs",
        f"{found.get('running')} running, {found.get('queued')} queued, {found.get('uploading')} uploading"
        + (f"; {counted(waiting, 'outcome')} to deliver" if waiting else ""),
    )
    # A slot without a card takes no job.
    yield (
        "slots",
        f"{slots.get('cpu')} CPU, " + ("GPU: none here" if cards == 0 else f"{slots.get('gpu')} GPU"),
    )
    yield "load", f"{found.get('cpu_load')}"
    yield (
        "free",
        (
            f"{found.get('memory_free_mb')} MiB of memory, {found.get('disk_free_mb')} MiB of disk"
            + ("" if cards == 0 else f", {found.get('vram_free')} MiB of video memory")
        ),
    )
    yield "isolation", ", ".join(texts_of(found, "isolation"))
    yield "last heartbeat", str(found.get("last_heartbeat_at") or "none answered yet")
