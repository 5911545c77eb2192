"""The hostile suite as a page: `python tests/hostile/table.py > docs/hostile-suite.md`."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2]))

from tests.hostile.attacks import ATTACKS, Attack

_HEAD = """# The hostile suite

What a stranger's job may try, each one run for real by `tests/hostile`, which `make test` includes: the installed
daemon, a real bubblewrap, a rule that lets the job do whatever a program can. Beside each attack runs a neighbour, a
job that computes, sleeps and writes durably in turns; it must be done within 1.5 times of what it takes alone, and
somebody asks the daemon for `/healthz` all the while. Manifests that want past the allowlist, and media that lie about
themselves, are in `tests/hostile/test_hostile_manifests.py`. This page is made from the suite
(`python tests/hostile/table.py`).

| attack | it tries | it gets | the job ends |
|---|---|---|---|
"""


def _row(attack: Attack) -> str:
    return f"| {attack.name} | {attack.tries} | {attack.gets} | {attack.code or 'done'} |\n"


def page() -> str:
    """Return the page."""
    return _HEAD + "".join(map(_row, ATTACKS))


if __name__ == "__main__":
    sys.stdout.write(page())
