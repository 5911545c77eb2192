"""Reading beside a writer: what an onlooker sees of the log's index in the middle of a commit passes."""

import asyncio
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from journal.onlooker import connect_reader
from journal.opening import open_journal
from journal.port import Entry, StreamKey

KEY = StreamKey("j-1", 1)


async def one_record(path):
    journal, _ = open_journal(path, boot_id="boot", now_ns=lambda: 1)
    await journal.append(KEY, 0, [Entry("Offered", 1, "IDLE", "PULLING", {})])
    return journal


# In a process of its own: connections of one process share the index, and whoever closes it there lets go of its locks.
LOOK = """
import os
import sys
from pathlib import Path
from journal.onlooker import Damaged, connect_reader
from journal.reader import open_reader
path, index = Path(sys.argv[1]), Path(sys.argv[2])
whole = index.read_bytes()[:16]
def write(header):
    with index.open("r+b") as file:
        file.write(header)
# As in the middle of a commit: the first of the header's two copies is ahead of the second.
write(bytes(255 - byte for byte in whole))
try:
    open_reader(path)
except Damaged as error:
    print("readonly database" in str(error))
glimpses = []
def heal():
    glimpses.append(1)
    if len(glimpses) == 3:
        write(whole)
os.sched_yield = heal  # what it does between two looks
conn = connect_reader(path)
print(conn.execute("SELECT count(*) FROM records").fetchone(), len(glimpses))
"""


def test_an_index_that_is_being_written_is_looked_at_again_and_for_ever_broken_is_said(tmp_path):
    path = tmp_path / "journal.db"

    async def main():
        journal = await one_record(path)
        looking = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", LOOK, path, tmp_path / "journal.db-shm"), stdout=subprocess.PIPE
        )
        seen, _ = await looking.communicate()
        await journal.close()
        return seen

    assert asyncio.run(main()).splitlines() == [b"True", b"(1,) 3"]


def test_other_errors_are_not_asked_for_again(tmp_path):
    path = tmp_path / "journal.db"

    async def main():
        journal = await one_record(path)
        with closing(connect_reader(path)) as conn, pytest.raises(sqlite3.OperationalError, match="no such"):
            conn.execute("SELECT * FROM nowhere")
        await journal.close()

    asyncio.run(main())
