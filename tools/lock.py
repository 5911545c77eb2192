"""Resolve the lock files anew: exact versions with hashes, for every supported Python, without an index's address."""

import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OPTIONS = [
    *("--universal", "--python-version", "3.11", "--generate-hashes"),
    *("--no-emit-index-url", "--no-header", "--no-annotate", "--quiet", "pyproject.toml"),
]


def main() -> None:
    """Write requirements.lock, then requirements-dev.lock on top of it."""
    home = ROOT / "build" / "uv"
    uv = home / "bin" / "uv"
    if not uv.exists():
        venv.create(home, with_pip=True)
        subprocess.run([home / "bin" / "python", "-m", "pip", "install", "--quiet", "uv"], check=True)
    for extra in (
        ["-o", "requirements.lock"],
        ["--group", "dev", "-c", "requirements.lock", "-o", "requirements-dev.lock"],
    ):
        subprocess.run([uv, "pip", "compile", *OPTIONS, *sys.argv[1:], *extra], cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
