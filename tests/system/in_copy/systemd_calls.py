"""Plays systemd/install.sh where systemd seems to run: systemctl is a stand-in that writes down what it is asked."""

import json
import os
import shutil
import subprocess
from pathlib import Path

from place import ETC, PREFIX, STATE, TASKS, call, script, stand_in_venv

BIN, CALLS, ACTIVE, BROKEN = (Path("/checkout", name) for name in ("bin", "calls", "active", "broken"))
UNITS = Path("/etc/systemd/system")
# Each call, which version .venv led to by then, and how many of the three units were there.
SYSTEMCTL = """\
#!/bin/sh
venv=$(readlink /usr/local/lib/aitbc/miner/.venv)
units=$(find /etc/systemd/system -maxdepth 1 -name 'aitbc*' -type f | wc -l)
echo "$units ${venv##*/} $*" >>/checkout/calls
case $1 in
is-active) exec test -e /checkout/active ;;
start | restart)
    [ ! -e /checkout/broken ] || exit 1
    : >/checkout/active
    ;;
stop) rm -f /checkout/active ;;
enable | disable) SYSTEMD_OFFLINE=1 exec {real} "$@" ;;
esac
"""


def main() -> None:
    Path("/run/systemd/system").mkdir(parents=True)
    BIN.mkdir()
    (BIN / "python3").symlink_to(stand_in_venv())
    (BIN / "systemctl").write_text(SYSTEMCTL.replace("{real}", str(shutil.which("systemctl"))))
    (BIN / "systemctl").chmod(0o755)
    os.environ["PATH"] = f"{BIN}:{os.environ['PATH']}"

    told = {"first": recorded()}
    told["no token"] = recorded("--start")
    (ETC / "token").write_text("token\n")
    told["start"] = recorded("--start")
    told["upgrade"] = recorded()
    BROKEN.touch()
    told["broken"] = recorded()
    ACTIVE.unlink()
    told["broken start"] = recorded("--start")
    BROKEN.unlink()
    Path("/verdict").write_text("5\n")
    told["refused"] = recorded()
    Path("/verdict").unlink()

    told["another user"] = another_user()
    told["its upgrade"] = recorded()
    told["its files"] = files()
    told["of the user before"] = call(
        "grep", "-rlw", "games", "/etc/tmpfiles.d", "/etc/logrotate.d/aitbc-miner"
    )

    told["uninstall"] = recorded("--uninstall")
    told["again"] = recorded("--uninstall")
    script()
    ACTIVE.touch()
    told["purge"] = recorded("--purge")
    told["enabled"] = [str(path) for path in UNITS.rglob("*aitbc*") if path.is_symlink()]
    print(json.dumps(told))


def recorded(*options: str) -> dict[str, object]:
    """Run the script; return its code, what it said, and each call: units there, whether .venv was turned, what."""
    CALLS.write_text("")
    before = (PREFIX / ".venv").readlink().name if (PREFIX / ".venv").is_symlink() else ""
    done = script(*options)
    calls = [line.split(" ", 2) for line in CALLS.read_text().splitlines()]
    return done | {"calls": [[int(units), venv not in ("", before), what] for units, venv, what in calls]}


def another_user() -> dict[str, object]:
    """Do what operations.md has an operator do."""
    document = Path("/usr/local/share/doc/fsm-miner/operations.md").read_text()
    recipe = document.split("## Another user")[1].split("```sh\n")[1].split("```")[0]
    (STATE / "journal.db").touch()
    shutil.chown(STATE / "journal.db", "games", "games")
    return call("/bin/sh", "-ec", recipe)


def files() -> dict[str, str]:
    """Return who owns what, after a boot and an edit."""
    subprocess.run(["systemd-tmpfiles", "--create", "/etc/tmpfiles.d/aitbc-miner.conf"], check=True)
    (TASKS / "example.py").write_text("edited")
    (ETC / "config.yaml").write_text("edited")
    script()
    named = (ETC, ETC / "allowlist.d", ETC / "config.yaml.new", ETC / "token", STATE, STATE / "journal.db")
    named = (*named, Path("/var/log/aitbc/miner"))
    return {str(path): f"{path.owner()}:{path.group()}" for path in named}


main()
