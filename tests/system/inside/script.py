"""The other way to install it: systemd/install.sh, from a checkout, with wheels and no network."""

import pwd
from pathlib import Path
from typing import Any

from events import in_the_middle_of_a_job
from packages import DROP_INS, files_left
from world import CONFIG, DAEMON, ETC, JOBS_UNIT, SH_RULE, TOKEN, World, run, shown

_SCRIPT = ("env", "PIP_NO_INDEX=1", "PIP_FIND_LINKS=/host/wheels", "/host/checkout/systemd/install.sh")
_PREFIX = Path("/usr/local/lib/aitbc/miner")


def script_install(world: World) -> dict[str, Any]:
    """Install it where the package was purged; a job goes through."""
    run("systemctl", "stop", "coordinator.service", check=False)
    said = run(*_SCRIPT, timeout_s=400)
    assert "there is no bootstrap token yet" in said, said
    assert shown(DAEMON, "UnitFileState") == "enabled"
    assert shown(DAEMON, "ActiveState") == "inactive", "there is no token yet"
    (ETC / "config.yaml").write_text(CONFIG.replace(', "/usr/lib/aitbc/miner/tasks"', ""))
    (ETC / "token").touch(mode=0o600)
    (ETC / "token").write_text(TOKEN + "\n")
    (ETC / "allowlist.d" / "sh.yaml").write_text(SH_RULE)
    world.start_coordinator(_PREFIX / ".venv")
    run("systemctl", "start", DAEMON)
    world.registered()
    assert world.wait(world.submit("echo hello > output.txt"))["state"] == "done"
    return {}


def script_upgrade(world: World) -> dict[str, Any]:
    """Run it again in the middle of a job."""
    before = (_PREFIX / ".venv").readlink()
    facts = in_the_middle_of_a_job(world, lambda: run(*_SCRIPT, timeout_s=400))
    assert (_PREFIX / ".venv").readlink() != before
    assert before.exists(), "a task may still run in it"
    return facts


def script_uninstall(world: World) -> dict[str, Any]:
    """Uninstall it while a job runs: the job ends, program and units go, journal and token stay; then purge it."""
    world.running(world.submit("touch started; sleep 300"))
    run(*_SCRIPT, "--uninstall")
    assert shown(DAEMON, "ActiveState") == shown(JOBS_UNIT, "ActiveState") == "inactive"
    assert shown(DAEMON, "LoadState") == shown(JOBS_UNIT, "LoadState") == "not-found"
    uids = {user.pw_uid for user in pwd.getpwall() if user.pw_name in ("games", "miner")}
    assert [path.name for path in Path("/proc").glob("[0-9]*") if path.stat().st_uid in uids] == []
    assert (ETC / "token").exists()
    assert Path("/var/lib/aitbc/miner/journal.db").exists()
    run(*_SCRIPT, "--purge")
    left = files_left(world)
    assert left == DROP_INS | {"/run/fsm-miner-install.lock"}, left
    return {}
