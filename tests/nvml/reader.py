"""A process that reads the node's GPUs on demand: one line of JSON for each line on standard input.

`python reader.py FOLDER DEADLINE_S`, with FOLDER holding the roots `sys`, `dev` and `proc`.
"""

import asyncio
import json
import sys
from dataclasses import asdict
from pathlib import Path

from fsm_miner.probe import Gpu, GpuReading, ThreadedInventory, gpu_sources


def plain(gpu: Gpu) -> dict[str, object]:
    fields = {name: getattr(gpu, name) for name in Gpu.__dataclass_fields__}
    return {
        **fields,
        "visible_env": dict(gpu.visible_env),
        "mig": None if gpu.mig is None else asdict(gpu.mig),
    }


def answer(reading: GpuReading) -> str:
    return json.dumps(
        {"gpus": [plain(gpu) for gpu in reading.gpus], "problems": reading.problems, "stale": reading.stale}
    )


async def main(folder: Path, deadline_s: float) -> None:
    sources = gpu_sources(folder / "sys", folder / "dev", folder / "proc")
    inventory = ThreadedInventory(sources, deadline_s)
    while await asyncio.to_thread(sys.stdin.readline):
        print(answer(await inventory.read()), flush=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), float(sys.argv[2])))
