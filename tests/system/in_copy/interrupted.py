"""Plays systemd/install.sh killed before each command that changes something, and on a disk that is full.

Programs that change something are reached through a wrapper that counts, and kills the script when its turn has come.
Python is a stand-in that makes a venv of a few files: the script is what is tried.
"""

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

from place import ETC, PREFIX, SCRIPT, TASKS, script, stand_in_venv, there

BIN, COUNT = Path("/checkout/bin"), Path("/checkout/count")
COUNTED = (
    "install",
    "ln",
    "mv",
    "rm",
    "rmdir",
    "systemctl",
    "systemd-sysusers",
    "systemd-tmpfiles",
    "python3",
)
WRAPPER = """\
#!/bin/sh
read -r turn kill_at pid </checkout/count
echo "$((turn + 1)) $kill_at $pid" >/checkout/count
if [ "$turn" = "$kill_at" ]; then
    kill -KILL "$pid"
    exit 137
fi
exec {program} "$@"
"""
# Each call a second later: the script waits for the next second where a name is taken.
DATE = """\
#!/bin/sh
read -r second </checkout/second
echo "$((second + 1))" >/checkout/second
echo "20261125T${second}Z"
"""
VENV = PREFIX / ".venv"
CONFIG = ETC / "config.yaml"
LOCK = "/run/fsm-miner-install.lock"
FILLER = Path("/filler")


def main() -> None:
    prepare()
    told = {"reference": script()}
    reference = content()
    commands = int(COUNT.read_text().split()[0])
    told["purge"] = script("--purge")

    told["killed"], told["problems"] = 0, []
    # A first installation, killed at each point in turn on what the one before left: the last one ends well.
    for turn in range(commands):
        told["killed"] += killed_at(turn, told["problems"])
    finish(told, "first, killed again and again", reference)
    # And on nothing, at points that are spread over all of it.
    for turn in range(0, commands, 13):
        script("--purge")
        told["killed"] += killed_at(turn, told["problems"])
        finish(told, f"first, killed at {turn}", reference)

    told["full"] = []
    for free_kib in (60, 116, 132):
        script("--purge")
        on_full_disk(free_kib, told, reference)

    # An upgrade of a node that an administrator has made his own.
    CONFIG.write_text("edited")
    (ETC / "allowlist.d" / "echo.yaml").unlink()
    told["upgrade"] = script()
    reference = content()
    for turn in range(0, commands, 2):
        told["killed"] += killed_at(turn, told["problems"])
    finish(told, "upgrade, killed again and again", reference)

    for free_kib in (60, 200):
        on_full_disk(free_kib, told, reference)

    # Both removals as well.
    for option in ("--uninstall", "--purge"):
        for turn in range(0, 30, 3):
            killed_at(turn, [], option)
        told[option] = script(option)
    told["left"] = sorted(path for path in there() if "aitbc" in path or "fsm-miner" in path)
    told["commands"] = commands
    print(json.dumps(told))


def prepare() -> None:
    BIN.mkdir()
    for name in COUNTED:
        program = stand_in_venv() if name == "python3" else shutil.which(name)
        (BIN / name).write_text(WRAPPER.format(program=program))
        (BIN / name).chmod(0o755)
    Path("/checkout/second").write_text("100000\n")
    (BIN / "date").write_text(DATE)
    (BIN / "date").chmod(0o755)
    COUNT.write_text("0 -1 0\n")
    os.environ["PATH"] = f"{BIN}:{os.environ['PATH']}"


def killed_at(turn: int, problems: list[str], *options: str) -> bool:
    """Run the script, killed before its command number `turn`; return whether it came to that."""
    COUNT.write_text(f"0 {turn} 0\n")
    began = subprocess.Popen(
        # It waits until its own process id is where the wrapper looks for it.
        ["/bin/sh", "-c", 'read -r _; exec /bin/sh "$@"', "sh", SCRIPT, *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    COUNT.write_text(f"0 {turn} {began.pid}\n")
    began.communicate("\n")
    # What it had started may live a moment longer, and holds its lock.
    subprocess.run(["flock", "--timeout", "30", LOCK, "true"], check=True)
    COUNT.write_text("0 -1 0\n")
    problems += unsound(f"killed before {turn}{options}")
    return began.returncode == -signal.SIGKILL


def unsound(when: str) -> list[str]:
    """Return what must never be, however far it came."""
    found = []
    if VENV.is_symlink() and not (VENV / "bin" / "fsm-miner").exists():
        found.append(f"{when}: .venv leads nowhere")
    whole = (CONFIG, *ETC.glob("allowlist.d/*.yaml"), *TASKS.glob("*.py"))
    found += [f"{when}: {path} is empty" for path in whole if path.exists() and path.stat().st_size == 0]
    return found


def on_full_disk(free_kib: int, told: dict, reference: dict[str, str]) -> None:
    with FILLER.open("wb") as out:
        space = os.statvfs("/")
        out.write(bytes(space.f_bavail * space.f_frsize - free_kib * 1024))
    told["full"].append(script())
    told["problems"] += unsound(f"disk full, {free_kib} KiB left")
    FILLER.unlink()
    finish(told, f"disk full, {free_kib} KiB left", reference)


def finish(told: dict, when: str, reference: dict[str, str]) -> None:
    """Run it to its end; everything must be as if it had never been cut short."""
    last = script()
    if last["code"] != 0:
        told["problems"].append(f"{when}: {last['said']}")
    now = content()
    told["problems"] += [
        f"{when}: {path}" for path in {**now, **reference} if now.get(path) != reference.get(path)
    ]


def content() -> dict[str, str]:
    """Return path -> what is in it, without the names of the venvs."""
    return {
        path: "" if Path(path).is_dir() else Path(path).read_text(errors="replace")
        for path in there()
        if any(part in path for part in ("aitbc", "fsm-miner"))
        and "/venvs/" not in path
        and path != str(VENV)
    }


main()
