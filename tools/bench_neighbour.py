"""What the end of a harmful job costs the job beside it: one that only computes, so that it feels every bit of it."""

import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench_node import BenchNode

__all__ = ["neighbours"]

_NEIGHBOUR = """
import time
began = time.monotonic()
sum(i * i for i in range(18_000_000))
print(time.monotonic() - began)
"""
_MEMORY_MB = 384
_TIMES = 5
# Bounded, so that a defect does not take the machine with it.
_HARM = {
    "an OOM": "held = []\nwhile True: held.append(b'x' * (16 << 20))",
    "a time-out": "while True: pass",
    "a cancel": "while True: pass",
    "a fork bomb": "import os, time\nfor n in range(1600):\n    if os.fork() == 0: time.sleep(30); os._exit(0)\n"
    "time.sleep(30)",
}


def _job(script: str, timeout_s: float = 60) -> dict[str, Any]:
    return {"runner": "cli", "command": "python3", "args": ["-c", script], "timeout_s": timeout_s}


def _computed_s(node: BenchNode, job_id: str) -> float:
    node.wait(job_id)
    return float(node.log_of(job_id).read_text())


def neighbours(folder: Path) -> Iterator[tuple[str, float, float]]:
    """Yield (what, seconds beside it, seconds alone), each the median of some, measured in turns."""
    with BenchNode(folder, program="python3", arguments="(?s).*", memory_mb=_MEMORY_MB) as node:
        for what, script in _HARM.items():
            beside: list[float] = []
            alone: list[float] = []
            for _ in range(_TIMES):
                alone.append(_computed_s(node, node.submit([_job(_NEIGHBOUR)])[0]))
                harm = _job(script, 0.3 if what == "a time-out" else 60)
                hostile, neighbour = node.submit([harm, _job(_NEIGHBOUR)])
                if what == "a cancel":
                    time.sleep(0.3)
                    node.cancel([hostile])
                beside.append(_computed_s(node, neighbour))
                node.wait(hostile)
            yield what, statistics.median(beside), statistics.median(alone)
