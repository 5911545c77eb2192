"""Plays systemd/install.sh with a stand-in of the program: install, again, after edits, refused, uninstall, purge."""

import json
import os
import subprocess
from pathlib import Path

from place import ETC, PREFIX, TASKS, script, stand_in_venv, there

CONFIG, RULE = ETC / "config.yaml", ETC / "allowlist.d" / "echo.yaml"
VENV = PREFIX / ".venv"
DOCS = Path("/usr/local/share/doc/fsm-miner")


def main() -> None:
    told, before = {}, there()
    told["first"] = script()
    told["program"] = subprocess.run(
        ["/usr/local/bin/fsm-miner"], capture_output=True, text=True, check=False
    ).stdout
    told["config"] = CONFIG.read_text()
    rules = [f"allowlist.d/{path.name}" for path in (ETC / "allowlist.d").iterdir()]
    told["shipped"] = sorted([*rules, *(f"tasks/{path.name}" for path in TASKS.iterdir())])
    told["documents"] = sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md"))
    told["enabled"] = Path("/etc/systemd/system/multi-user.target.wants/aitbc-miner.service").is_symlink()
    # The first one was real; from here on it is the script alone.
    Path("/checkout/bin").mkdir()
    Path("/checkout/bin/python3").symlink_to(stand_in_venv())
    os.environ["PATH"] = f"/checkout/bin:{os.environ['PATH']}"
    once = there()
    told["again"] = script()
    told["changed_again"] = sorted(path for path in there() ^ once if "/venvs/" not in path)
    CONFIG.write_text("edited")
    RULE.unlink()
    (TASKS / "example.py").unlink()
    (TASKS / "own.py").write_text("own")
    told["edited"] = script()
    told["kept"] = [CONFIG.read_text(), RULE.exists(), (TASKS / "example.py").exists()]
    told["beside"] = sorted(path for path in there() if path.endswith(".new"))
    told["venvs"] = len(list((PREFIX / "venvs").iterdir()))
    # The stand-in's answer to `check --journal`.
    now, verdict = VENV.readlink(), Path("/verdict")
    verdict.write_text("5\n")
    told["refused"] = script()
    # What `timeout` ends with.
    verdict.write_text("124\n")
    told["slow"] = script()
    told["refused_kept"] = [VENV.readlink() == now, len(list((PREFIX / "venvs").iterdir()))]
    verdict.unlink()
    told["uninstall"] = script("--uninstall")
    told["left"] = sorted(there() - before)
    told["purge"] = script("--purge")
    told["left_after_purge"] = sorted(there() - before)
    print(json.dumps(told))


main()
