"""Runs inside the machine, started by its systemd: works through the scenarios, over reboots, and powers it off.

Only the release's own Python and its standard library are there. Each result is a line of /host/results.jsonl.
"""

import json
import subprocess
import sys
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import scenarios
from world import HOST, Reboot, World

RESULTS = HOST / "results.jsonl"
STATE = HOST / "state.json"


def main() -> None:
    """Go on where the last boot left off."""
    state = json.loads(STATE.read_text()) if STATE.exists() else {"next": 0, "kept": {}}
    wanted = json.loads((HOST / "scenarios.json").read_text())
    steps = [step for step in scenarios.ALL if step.__name__ in wanted]
    world = World(state["kept"])
    for index, step in enumerate(steps):
        if index < state["next"]:
            continue
        state["next"] = index + 1
        began = time.monotonic()
        result = {"name": step.__name__, "ok": False, "facts": {}, "problem": ""}
        reboot = False
        try:
            result["facts"] = step(world) or {}
            result["ok"] = True
        except Reboot:
            reboot, result["ok"] = True, True
        except Exception:  # noqa: BLE001 - whatever it is, it is the result
            result["problem"] = f"{traceback.format_exc()}\n{world.story()}"
            world.end_all()
        result["seconds"] = round(time.monotonic() - began, 1)
        with RESULTS.open("a") as out:
            out.write(json.dumps(result) + "\n")
        STATE.write_text(json.dumps(state))
        if reboot:
            subprocess.run(["systemctl", "reboot"], check=True)
            return
        if not result["ok"] and getattr(step, "vital", False):
            break
    subprocess.run(["systemctl", "poweroff"], check=True)


if __name__ == "__main__":
    try:
        main()
    except Exception:
        (HOST / "driver-failed.txt").write_text(traceback.format_exc())
        raise
