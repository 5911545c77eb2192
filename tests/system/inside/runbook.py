"""What the manual has an operator do (docs/operations.md), done on a node that works."""

import os
import subprocess
from pathlib import Path
from typing import Any

from world import DAEMON, ETC, TOKEN, World, health, main_pid, run, shown, until

_LOG = Path("/var/log/aitbc/miner/miner.jsonl")
_KEYS = {"running", "queued", "cpu_load", "vram_free", "version", "last_heartbeat_at", "draining"}


def without_a_token(world: World) -> dict[str, Any]:
    """A start without a token fails with the code that the manual names, and is tried again."""
    run("systemctl", "start", DAEMON, check=False)
    until(lambda: shown(DAEMON, "ExecMainStatus") == "243", "exit code 243", every_s=0.5)
    assert shown(DAEMON, "Restart") == "always"
    run("systemctl", "stop", DAEMON)
    run("systemctl", "reset-failed", DAEMON)
    return {}


def runbook(world: World) -> dict[str, Any]:
    """Logs, rotation, reload, health, drain, check, backup."""
    pid = main_pid()
    assert health().keys() >= _KEYS, health().keys()
    assert "registered" in run("journalctl", "--no-pager", "-u", DAEMON, "-n", "50")

    # As logrotate does it every day, and at once: the daemon writes on, in the new file.
    before = _LOG.stat().st_ino
    run("logrotate", "--force", "/etc/logrotate.d/aitbc-miner")
    run("systemctl", "reload", DAEMON)
    assert Path(f"{_LOG}.1").stat().st_ino == before
    assert f"{_LOG.owner()}:{_LOG.group()} {_LOG.stat().st_mode & 0o777:o}" == "games:games 640"

    run("systemctl", "kill", "--kill-whom=main", "-s", "SIGUSR1", DAEMON)
    until(lambda: health().get("draining"), "it drains")
    run("systemctl", "kill", "--kill-whom=main", "-s", "SIGUSR2", DAEMON)
    until(lambda: not health().get("draining"), "it takes jobs again")
    until(lambda: _LOG.stat().st_size > 0, "the new log is written")

    # As its user, seen from a shell: no problem on a node that was installed as it should be.
    looked = _as_games("fsm-miner", "check")
    assert looked.returncode == 0, looked.stdout
    assert TOKEN not in looked.stdout
    # Its user may not read the token's file, and nobody else the configuration.
    assert _as_games("cat", str(ETC / "token")).returncode != 0
    run("fsm-miner", "backup", "/root/journal-backup.db")
    Path("/root/journal-backup.db").unlink()
    assert main_pid() == pid
    return {"check": looked.stdout.splitlines()[-1]}


def _as_games(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["setpriv", "--reuid=games", "--regid=games", "--init-groups", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        cwd="/",
        env={"PATH": os.environ["PATH"]},
        timeout=60,
    )
