"""Programs whose every write is traced. Each says, through the file ACKNOWLEDGED, what it was told is durable.

Run as `python workloads.py NAME FOLDER`.
"""

import asyncio
import os
import sqlite3
import sys
from contextlib import closing
from itertools import count
from pathlib import Path

from journal import Entry, StreamKey, open_journal

PAD = "x" * 700


class Teller:
    """Appends, and says so when it is done."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "j.db"
        self.now = count(10**18, 10**6)
        self.batches = count(1)
        self.fd = os.open(folder / "ACKNOWLEDGED", os.O_WRONLY | os.O_CREAT, 0o600)

    def open(self):
        return open_journal(self.path, boot_id="b", now_ns=lambda: next(self.now))[0]

    async def append(self, journal, key: StreamKey, size: int, pad: str = PAD) -> None:
        batch = next(self.batches)
        entries = [
            Entry("E", 1, "A", "B", {"batch": batch, "place": place, "of": size, "pad": pad})
            for place in range(size)
        ]
        records = await journal.append(key, len(journal.read(key)), entries)
        text = "".join(f"{r.job_id} {r.attempt} {r.seq} {r.hash}\n" for r in records)
        os.write(self.fd, text.encode())

    def checkpoint(self, how: str) -> None:
        with closing(sqlite3.connect(self.path)) as other:
            other.execute(f"PRAGMA wal_checkpoint({how})").fetchone()


def key(n: int) -> StreamKey:
    return StreamKey(f"j-{n}", 1)


async def life(folder: Path) -> None:
    """Creation, appends one by one and at once, checkpoints, restarts, a seal with its export."""
    teller = Teller(folder)
    for turn in range(3):
        journal = teller.open()
        for n in range(3):
            await teller.append(journal, key(n if turn < 2 else n + 10), 1 + n)
        await asyncio.gather(*(teller.append(journal, key(10 * turn + n), 2) for n in range(3, 7)))
        teller.checkpoint(("PASSIVE", "RESTART", "TRUNCATE")[turn])
        await teller.append(journal, key(turn), 3)
        await teller.append(journal, key(8), 1, "x" * 9000)
        await journal.probe()
        if turn == 1:
            await journal.seal([key(0), key(4)], folder / "journal-archive")
            await teller.append(journal, key(9), 2)
        await journal.close()


async def after_a_salvage(folder: Path) -> None:
    """Finds a damaged database, salvages it, and goes on."""
    teller = Teller(folder)
    journal = teller.open()
    for n in range(3):
        await teller.append(journal, key(20 + n), 2)
    await journal.close()


if __name__ == "__main__":
    asyncio.run({"life": life, "salvage": after_a_salvage}[sys.argv[1]](Path(sys.argv[2])))
