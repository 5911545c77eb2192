"""The hostile suite as a page.

python tests/hostile/table.py            > docs/hostile-suite.md    from the suite and its recorded figures
python tests/hostile/table.py --record   > docs/hostile-suite.md    first run the suite for new figures

Figures are recorded on a machine that has nothing else to do.
"""

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2]))

from tests.hostile.arguments import COUNTED
from tests.hostile.attack import Attack
from tests.hostile.attacks import ATTACKS
from tests.hostile.figures import FILE, RECORD, ROUNDS_RECORDED, Figures, load

_ROOT = Path(__file__).resolve().parents[2]

_HEAD = """# The hostile suite

What a stranger's job may try, each one run for real by `tests/hostile`, which `make test` includes: the installed
daemon, a real bubblewrap, a rule that lets the job do whatever a program can; as root, once more under a daemon that is
not, as the units run it. Each attack prints what it got, and the
test compares that with what it must have got; what shows from outside only (who was connected to, what was delivered)
is looked at from outside. At the end the folders of all these jobs are swept, and nothing of them may be left.

Beside each attack runs a neighbour, a job that computes for a quarter of its time, and sleeps and writes durably for
the rest. It must be done within 1.5 times of what it takes alone; the machine is shared, so one that is not is tried
again, up to six times, against what it takes alone then. Somebody asks the daemon for `/healthz` all the while, and
is answered. What a neighbour feels that only computes is measured by `make bench`.

This page is made from the suite and from the figures of a recorded run (`tests/hostile/figures.json`, `python
tests/hostile/table.py --record`); a test holds the three together.
"""

_WHERE = """
## The figures

Recorded on Linux {kernel} with {cpus} CPUs and {memory_mb:,} MiB of memory, bubblewrap {bubblewrap}, {how}.
Each attack was run {rounds} times beside its neighbour, which takes {alone_s:.2f} s alone, as measured just before.
Neighbour and life are the median of all tries, also of those where it was late; of `/healthz` it is the slowest answer
of all. Neighbour 1.00 means: as long as alone. A life includes what the attack waits for by itself.
"""

_HOW = {
    "v1": "without cgroup v2,\nwhich that machine does not have: there the watchdog looks at memory and processes, "
    "twice a second. With cgroup v2 the\nkernel holds the limits itself, which the system tests try on a real kernel "
    "([system-tests.md](system-tests.md))",
    "v2": "with cgroup v2",
}

_ENDS = """
### What an OOM, a time-out, a cancel and a fork bomb cost the neighbour

| | neighbour | slowest `/healthz`, ms | it lived, s |
|---|---|---|---|
"""
_ENDED = {"an OOM": "memory", "a time-out": "time-out", "a cancel": "cancel", "a fork bomb": "fork bomb"}

_TABLE = """
## The attacks

| attack | it tries | it gets | the job ends | neighbour | slowest `/healthz`, ms | it lived, s |
|---|---|---|---|---|---|---|
"""

_TAIL = """
## Manifests and media

In `tests/hostile/test_hostile_manifests.py`, by the same daemon, with the rules that are shipped and a real ffmpeg:

{counted}

## What there is none of

- **Archives.** The node unpacks none: inputs are kept as they came, the content codings of HTTP are refused, and so
  is a compressed answer of the coordinator (`tests/integration/test_inputs_over_http.py`,
  `test_client_broken_network.py`). What a job unpacks itself is its own memory, files and time, and ends at their
  limits as above.
- **A cache** that jobs share: not in this version; each job has its inputs for itself, read-only.
- **Signals, tracing and timing across jobs on one processor**: the first two are refused as above, side channels are
  not promised ([security.md](security.md)).
"""


def _row(attack: Attack, figures: Figures) -> str:
    return f"| {attack.name} | {attack.tries} | {attack.gets} | {attack.ends} |{_cells(attack.name, figures)}"


def _cells(name: str, figures: Figures) -> str:
    seen = figures.attacks[name]
    return f" {seen.neighbour:.2f} | {seen.healthz_ms:.0f} | {seen.lived_s:.2f} |\n"


def _ended(figures: Figures) -> Iterable[str]:
    for words, name in _ENDED.items():
        yield f"| {words} |{_cells(name, figures)}"


def page(figures: Figures) -> str:
    """Return the page."""
    where = _WHERE.format(
        kernel=figures.kernel,
        cpus=figures.cpus,
        memory_mb=figures.memory_mb,
        bubblewrap=figures.bubblewrap,
        how=_HOW[figures.cgroup],
        rounds=ROUNDS_RECORDED,
        alone_s=figures.alone_s,
    )
    worst = max(figures.attacks.values(), key=lambda one: one.neighbour)
    slowest = max(figures.attacks.values(), key=lambda one: one.healthz_ms)
    sums = (
        f"\nOf {len(ATTACKS)} attacks the worst cost the neighbour {worst.neighbour:.2f} times its time alone; "
        f"the slowest answer of `/healthz` took {slowest.healthz_ms:.0f} ms.\n"
    )
    counted = "\n".join(f"- {count} {what}" for what, count in COUNTED.items())
    return "".join(
        (
            _HEAD,
            where,
            sums,
            _ENDS,
            *_ended(figures),
            _TABLE,
            *(_row(attack, figures) for attack in ATTACKS),
            _TAIL.format(counted=counted),
        )
    )


def _record() -> None:
    suite = "tests/hostile/test_hostile_jobs.py"
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", suite],
        cwd=_ROOT,
        env={**os.environ, RECORD: str(FILE)},
        check=True,
        stdout=sys.stderr,
    )


if __name__ == "__main__":
    if sys.argv[1:] == ["--record"]:
        _record()
    sys.stdout.write(page(load()))
