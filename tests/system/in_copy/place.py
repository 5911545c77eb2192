"""What the played files share: the script, what lies where, and the node's files."""

import os
import subprocess
from pathlib import Path

SCRIPT = "/checkout/systemd/install.sh"
WHERE = (
    *("/etc", "/usr/local", "/var/lib/aitbc", "/var/log/aitbc", "/usr/lib/systemd", "/usr/lib/aitbc"),
    *("/run", "/var/lib/systemd"),
)
ETC = Path("/etc/aitbc/miner")
STATE = Path("/var/lib/aitbc/miner")
PREFIX = Path("/usr/local/lib/aitbc/miner")
TASKS = PREFIX / "tasks"

# What `python3 -m venv FOLDER` leaves, as far as the script can tell, in no time. Its python answers `check --journal`.
_MAKE_VENV = """\
#!/bin/sh
set -e
mkdir -p "$3/bin"
head -c 100000 /dev/zero >"$3/big"
for name in pip python fsm-miner; do
    cp /checkout/answer "$3/bin/$name"
done
"""
_ANSWER = """\
#!/bin/sh
case $* in
*--journal*) [ ! -e /verdict ] || { echo "the stand-in's reason"; read -r code </verdict; exit "$code"; } ;;
esac
"""


def stand_in_venv() -> Path:
    """Return a program that is called as `python3 -m venv FOLDER`."""
    program, answer = Path("/checkout/make-venv"), Path("/checkout/answer")
    for path, text in ((program, _MAKE_VENV), (answer, _ANSWER)):
        path.write_text(text)
        path.chmod(0o755)
    return program


def there() -> set[str]:
    """Return every path where an installation may leave one."""
    found = {
        str(Path(folder, name))
        for where in WHERE
        for folder, folders, files in os.walk(where)
        for name in folders + files
    }
    found |= {where for where in WHERE if Path(where).exists()}
    return {path for path in found if "__pycache__" not in path}


def call(*command: str, env: dict[str, str] | None = None) -> dict[str, object]:
    """Run a command; return its exit code and what it said."""
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **(env or {})}
    )
    return {"code": done.returncode, "said": done.stdout + done.stderr}


def script(*arguments: str) -> dict[str, object]:
    """Run systemd/install.sh."""
    return call("/bin/sh", SCRIPT, *arguments)
