"""The figures of `systemd-analyze security` that the documents give."""

import re
from pathlib import Path

_DOCS = Path(__file__).parents[2] / "docs"
_SENTENCES = {
    "security.md": r"`systemd-analyze security`[^:]*: ([0-9.]+) for the daemon, ([0-9.]+) for the unit of the jobs'",
    "system-tests.md": r"`systemd-analyze security`[^:]*: the daemon ([0-9.]+), the jobs' unit ([0-9.]+),",
}


def documented_exposure() -> dict[str, dict[str, float]]:
    """Return document -> unit -> how exposed it is said to be, from 0 (the best) to 10."""
    found = {}
    for name, sentence in _SENTENCES.items():
        text = " ".join((_DOCS / name).read_text(encoding="utf-8").split())
        ((daemon, jobs),) = re.findall(sentence, text)
        found[name] = {"aitbc-miner.service": float(daemon), "aitbc-miner-jobs.service": float(jobs)}
    return found
