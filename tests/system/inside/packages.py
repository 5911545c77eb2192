"""The package comes, is upgraded, and goes."""

import grp
import pwd
import re
from pathlib import Path
from typing import Any

from world import (
    CONFIG,
    DAEMON,
    ETC,
    JOBS_UNIT,
    SH_RULE,
    TOKEN,
    World,
    health,
    listing,
    run,
    shown,
    vital,
)

# Where a package may leave something.
_WHERE = ("/etc", "/usr", "/opt", "/srv", "/var/lib", "/var/log", "/var/spool", "/home", "/root")
# What the system itself writes while it works, and dpkg's own books.
_OTHERS = re.compile(
    r"^/var/lib/(dpkg|systemd/(?!deb-systemd)|private|coordinator|logrotate|dbus)(/|$)|^/var/log/(journal|private|dpkg\.log|"
    r"[bw]tmp|lastlog|alternatives)|^/etc/(\.pwd\.lock|resolv|machine-id|[a-z]*-$|mtab|ld\.so\.cache)|__pycache__"
)


_DROP_IN = Path(f"/etc/systemd/system/{DAEMON}.d/test.conf")
# A removal keeps, beside configuration, journal, jobs and logs, logrotate's file and whether the daemon is enabled.
_KEPT = {
    "/etc/logrotate.d/aitbc-miner",
    f"/etc/systemd/system/multi-user.target.wants/{DAEMON}",
    f"/var/lib/systemd/deb-systemd-helper-enabled/{DAEMON}.dsh-also",
    f"/var/lib/systemd/deb-systemd-helper-enabled/multi-user.target.wants/{DAEMON}",
}
# The administrator's own: drop-ins, a task, and what makes the node another user's.
DROP_INS = {str(_DROP_IN), *(f"/etc/systemd/system/{unit}.d/user.conf" for unit in (DAEMON, JOBS_UNIT))}
_OWN = DROP_INS | {"/usr/local/lib/aitbc/miner/tasks/late.py", "/etc/tmpfiles.d/aitbc-miner.conf"}


def _there() -> set[str]:
    ours = {path for path in listing("/run") if re.search(r"aitbc|fsm-miner", path)}
    return {path for path in listing(*_WHERE) if not _OTHERS.search(path)} | ours


def files_left(world: World) -> set[str]:
    """Return what is there that was not before, without folders that only lead to it."""
    left = _there() - set(world.kept["before"])
    return left - {str(folder) for path in left for folder in Path(path).parents}


@vital
def install(world: World) -> dict[str, Any]:
    """Install it on a system that never had it, and that has lost its user."""
    # Some hardening guides have it removed.
    for name in ("passwd", "group", "shadow", "gshadow"):
        run("sed", "-i", "/^games:/d", f"/etc/{name}")
    world.kept["before"] = sorted(_there())
    printed = run("dpkg", "-i", "/host/first.deb", timeout_s=400)
    assert "put the bootstrap token into" in printed, printed
    assert shown(DAEMON, "UnitFileState") == "enabled"
    assert shown(DAEMON, "ActiveState") == "inactive", "there is no token yet"
    user = pwd.getpwnam("games")
    assert (user.pw_uid, grp.getgrgid(user.pw_gid).gr_name) == (5, "games"), user
    for folder, owner, mode in (
        ("/etc/aitbc/miner", "root:games", 0o750),
        ("/var/lib/aitbc/miner/jobs", "games:games", 0o750),
        ("/var/log/aitbc/miner", "games:games", 0o750),
        ("/usr/local/lib/aitbc/miner/tasks", "root:root", 0o755),
    ):
        found = Path(folder)
        assert f"{found.owner()}:{found.group()}" == owner, folder
        assert found.stat().st_mode & 0o777 == mode, folder
    assert run("dpkg", "--verify", "fsm-miner") == ""
    assert "Usage" in run("fsm-miner", "--help")
    return {"systemd": run("systemctl", "--version").split()[1]}


def security_figures(world: World) -> dict[str, Any]:
    """See what systemd thinks of the units."""
    verified = run("systemd-analyze", "verify", "--man=no", DAEMON, JOBS_UNIT)
    assert "aitbc" not in verified, verified
    figures = {}
    for unit in (DAEMON, JOBS_UNIT):
        last = run("systemd-analyze", "security", "--no-pager", unit).strip().splitlines()[-1]
        figures[unit] = float(re.search(r": ([0-9.]+) ", last)[1])
    return {"exposure": figures}


@vital
def configure(world: World) -> dict[str, Any]:
    """Configure and start it; the status line and the health page tell how it is."""
    (ETC / "config.yaml").write_text(CONFIG)
    (ETC / "token").touch(mode=0o600)
    (ETC / "token").write_text(TOKEN + "\n")
    (ETC / "allowlist.d" / "sh.yaml").write_text(SH_RULE)
    # The watchdog and the restart as shipped, only sooner.
    _DROP_IN.parent.mkdir()
    _DROP_IN.write_text("[Service]\nWatchdogSec=10\nTimeoutAbortSec=2\nRestartSec=1\n")
    run("systemctl", "daemon-reload")
    world.start_coordinator()
    run("systemctl", "start", DAEMON)
    world.registered()
    isolation = health()["isolation"]
    assert "cgroup-v2" in isolation, isolation
    # What this kernel lacks is said in one line, and nothing else is.
    there = Path("/sys/fs/cgroup/cgroup.controllers").read_text().split()
    lacking = [name for name in ("cpu", "cpuset", "io", "memory", "pids") if name not in there]
    said = run("journalctl", "--no-pager", "-b", "-o", "cat", f"_SYSTEMD_UNIT={JOBS_UNIT}").splitlines()
    assert said == [f"this system has no cgroup controller for jobs named: {' '.join(lacking)}"] * bool(
        lacking
    )
    status = world.status("registered; 0 running, 0 waiting")
    for unit in (DAEMON, JOBS_UNIT):
        assert TOKEN not in run("systemctl", "show", unit)
    return {"isolation": isolation, "status": status}


def remove(world: World) -> dict[str, Any]:
    """Remove it while a job runs: program and units go, jobs end; what is the administrator's stays."""
    job_id = world.submit("touch started; sleep 300")
    world.running(job_id)
    run("dpkg", "--remove", "fsm-miner")
    assert shown(DAEMON, "ActiveState") == shown(JOBS_UNIT, "ActiveState") == "inactive"
    assert shown(JOBS_UNIT, "LoadState") == "not-found"
    uid = pwd.getpwnam("miner").pw_uid
    assert [path.name for path in Path("/proc").glob("[0-9]*") if path.stat().st_uid == uid] == []
    rules = {f"{ETC}/allowlist.d/{name}.yaml" for name in ("echo", "ffmpeg", "whisper", "sh")}
    node = {str(ETC / "config.yaml"), str(ETC / "token"), *rules}
    data = ("/var/lib/aitbc/miner/", "/var/log/aitbc/miner/")
    left = {path for path in files_left(world) if not path.startswith(data)}
    assert left == _KEPT | _OWN | node, left ^ (_KEPT | _OWN | node)
    assert (ETC / "config.yaml").read_text() == CONFIG
    assert Path("/var/lib/aitbc/miner/journal.db").exists()
    return {}


def purge(world: World) -> dict[str, Any]:
    """Purge it: nothing is left but the administrator's own, and the users."""
    run("dpkg", "--purge", "fsm-miner")
    left = files_left(world)
    assert left == _OWN, left ^ _OWN
    return {}
