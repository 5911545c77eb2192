"""What the manual has an operator do (docs/operations.md), done on a node that works."""

import os
import pwd
import re
import subprocess
from pathlib import Path
from typing import Any

from world import DAEMON, ETC, JOBS_UNIT, TOKEN, World, cgroup_of, health, main_pid, run, shown, until

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


def unit_in_force(world: World) -> dict[str, Any]:
    """What the unit promises is so in the process that it started, and not only in its file."""
    pid = main_pid()
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    uid = str(pwd.getpwnam("games").pw_uid)
    assert status["Uid"].split() == [uid] * 4, status["Uid"]
    assert {int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    limits = Path(f"/proc/{pid}/limits").read_text()
    assert re.search(r"^Max core file size +1 +1 +bytes", limits, re.MULTILINE), limits
    assert Path(f"/proc/{pid}/oom_score_adj").read_text() == "-500\n"
    assert os.getpriority(os.PRIO_PROCESS, pid) == 10

    # Seen from inside of its mount namespace, as its user.
    def tried(*command: str) -> bool:
        inside = ["nsenter", f"--mount=/proc/{pid}/ns/mnt", "setpriv", "--reuid=games", "--regid=games"]
        done = subprocess.run([*inside, "--clear-groups", *command], check=False, capture_output=True)
        return done.returncode == 0

    assert tried("test", "-w", "/var/lib/aitbc/miner")
    assert tried("test", "-w", "/var/log/aitbc/miner")
    Path("/home/of-somebody").touch()
    Path("/tmp/of-somebody").touch()
    for path in ("/home/of-somebody", "/tmp/of-somebody"):
        assert not tried("test", "-e", path), path
        Path(path).unlink()
    read_only = {
        line.split()[4]: "ro" in line.split()[5].split(",")
        for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
    }
    assert read_only["/"], read_only
    assert not read_only["/var/lib/aitbc/miner"], read_only
    # Nobody is told the token by what everybody, or the user itself, can read of the process.
    for name in ("environ", "cmdline"):
        assert TOKEN.encode() not in Path(f"/proc/{pid}/{name}").read_bytes(), name
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
    looked = _as("games", "fsm-miner", "check")
    assert looked.returncode == 0, looked.stdout
    assert TOKEN not in looked.stdout
    # Its user may not read the token's file, and nobody else the configuration.
    assert _as("games", "cat", str(ETC / "token")).returncode != 0
    run("fsm-miner", "backup", "/root/journal-backup.db")
    Path("/root/journal-backup.db").unlink()
    assert main_pid() == pid
    return {"check": looked.stdout.splitlines()[-1]}


def another_user(world: World) -> dict[str, Any]:
    """Give the node to a user of its own, word for word as the manual has it."""
    manual = Path("/usr/share/doc/fsm-miner/operations.md").read_text()
    recipe = manual.split("## Another user")[1].split("```sh\n")[1].split("```")[0]
    before = main_pid()
    run("sh", "-ec", recipe)
    pid = world.registered(other_than=before)
    for process in (pid, int(shown(JOBS_UNIT, "MainPID"))):
        assert Path(f"/proc/{process}").owner() == "miner"
    # What every boot and every upgrade does.
    run("systemd-tmpfiles", "--create", "aitbc-miner.conf")
    for named in ("-user", "-group"):
        assert run("find", str(ETC), "/var/lib/aitbc", "/var/log/aitbc", named, "games") == ""
    looked = _as("miner", "fsm-miner", "check")
    assert looked.returncode == 0, looked.stdout

    run("logrotate", "--force", "/etc/logrotate.d/aitbc-miner")
    run("systemctl", "reload", DAEMON)
    job_id = world.submit("touch started; while ! test -e go; do sleep 0.2; done; id -u > output.txt")
    folder = world.running(job_id)
    assert cgroup_of(job_id)
    (folder / "work" / "go").touch()
    assert world.wait(job_id)["state"] == "done"
    assert job_id in _LOG.read_text()
    assert f"{_LOG.owner()}:{_LOG.group()} {_LOG.stat().st_mode & 0o777:o}" == "miner:miner 640"
    return {"check": looked.stdout.splitlines()[-1]}


def _as(user: str, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        cwd="/",
        env={"PATH": os.environ["PATH"]},
        timeout=60,
    )
