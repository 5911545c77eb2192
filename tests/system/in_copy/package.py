"""Plays dpkg with the real maintainer scripts and a stand-in of the program, as an administrator would."""

import json
import os
import signal
import subprocess
from pathlib import Path

from place import ETC, STATE, call, there

LIB = Path("/usr/lib/aitbc/miner")
VENV = LIB / ".venv"
CONFIG, RULES = ETC / "config.yaml", ETC / "allowlist.d"
VERDICT = STATE / "verdict"
QUIET = {"DEBIAN_FRONTEND": "noninteractive"}


def main() -> None:
    told, before = {}, there()
    told["install"] = install("1")
    told["modes"] = {path: mode(path) for path in (str(ETC), str(CONFIG), str(STATE), str(STATE / "jobs"))}
    # What a node makes of itself, and what an administrator makes of it.
    (STATE / "journal.db").write_text("journal")
    (STATE / "outputs").write_text("of jobs")
    (ETC / "token").write_text("token")
    CONFIG.write_text("edited")
    (RULES / "whisper.yaml").unlink()
    (RULES / "own.yaml").write_text("own")

    first = VENV.readlink()
    VERDICT.write_text("5")
    told["refused"] = install("2")
    told["refused_state"] = [status(), VENV.readlink() == first, leftovers()]
    VERDICT.write_text("1")
    told["mended"] = call("dpkg", "--configure", "fsm-miner")
    told["mended_state"] = [status(), VENV.readlink() == first]
    VERDICT.unlink()
    told["edited"] = [CONFIG.read_text(), (RULES / "whisper.yaml").exists(), (RULES / "own.yaml").exists()]
    told["beside"] = sorted(path.name for path in ETC.rglob("*.dpkg-*"))
    told["unedited"] = "changed in 2" in (RULES / "echo.yaml").read_text()

    told["without_terminal"] = install("3", "--force-confnew")  # whoever asks for it gets it
    told["asked_for"] = "changed in 3" in CONFIG.read_text()
    CONFIG.write_text("edited")
    told["downgrade"] = install("2", "--force-confold")
    told["downgrade_state"] = [status(), version(), CONFIG.read_text()]

    second = VENV.readlink()
    told["killed"] = killed("3")
    told["killed_state"] = [VENV.exists(), leftovers() > 0]
    told["after_kill"] = call("dpkg", "--force-confold", "--configure", "-a", env=QUIET)
    told["after_kill_state"] = [status(), version(), VENV.readlink() != second, leftovers()]

    told["remove"] = call("dpkg", "--remove", "fsm-miner")
    kept = there() - before
    told["kept"] = sorted(path for path in kept if Path(path).is_file())
    told["reinstall"] = install("3", "--force-confold")
    told["reinstall_state"] = [
        (STATE / "journal.db").read_text(),
        (STATE / "outputs").read_text(),
        (ETC / "token").read_text(),
        CONFIG.read_text(),
        (RULES / "whisper.yaml").exists(),
    ]
    told["purge"] = call("dpkg", "--purge", "fsm-miner")
    told["left"] = sorted(there() - before)
    print(json.dumps(told))


def install(number: str, *options: str) -> dict[str, object]:
    """Install a version; without options as a script would, that nobody is there to answer."""
    options = options or ("--force-confdef", "--force-confold")
    return call("dpkg", "--force-depends", *options, "-i", f"/checkout/{number}.deb", env=QUIET)


def killed(number: str) -> int:
    """Install it, and kill dpkg with all its scripts when the new venv is half made."""
    compiling = Path("/checkout/nproc")  # postinst asks for it when the copy is made and not compiled yet
    compiling.write_text("#!/bin/sh\nkill -KILL 0\n")
    compiling.chmod(0o755)
    command = ["dpkg", "--force-depends", "--force-confold", "-i", f"/checkout/{number}.deb"]
    env = {**os.environ, **QUIET, "PATH": f"/checkout:{os.environ['PATH']}"}
    done = subprocess.run(command, capture_output=True, check=False, process_group=0, env=env)
    assert done.returncode == -signal.SIGKILL, done
    return done.returncode


def status() -> str:
    return str(call("dpkg-query", "-W", "-f=${db:Status-Status}", "fsm-miner")["said"])


def version() -> str:
    return str(call("dpkg-query", "-W", "-f=${Version}", "fsm-miner")["said"])


def mode(path: str) -> str:
    found = Path(path)
    return f"{found.owner()}:{found.group()} {found.stat().st_mode & 0o777:o}"


def leftovers() -> int:
    return len(list((LIB / "venvs").glob("*.unfinished")))


main()
