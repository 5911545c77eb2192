"""Journals for the command line's tests: two lives of jobs, as records and as a real database."""

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from itertools import count

from journal import Entry, SqliteJournal, StreamKey
from journal.record import EMPTY, chain, prepare
from states import events as e
from states.events import VERSIONS, to_data
from states.evolve import evolve
from states.job import NEW
from tests.support.needs import lacking

START_NS = 1_767_225_600_000_000_000  # 2026-01-01 00:00:00 UTC
SECOND = 1_000_000_000
SHA = "ab" * 32
ARTIFACT = {"path": "output.txt", "type": "text/plain", "size": 12, "sha256": SHA}
MANIFEST = {
    "runner": "cli",
    "command": "echo",
    "args": ["hello", "world"],
    "requirements": {"gpu": False},
    "artifacts": [{"path": "output.txt", "type": "text/plain", "max_mb": 1}],
}


def offered(job_id="j-1", attempt=1, **manifest):
    return e.Offered(job_id, attempt, MANIFEST | {"job_id": job_id} | manifest, SHA, START_NS)


def running(run=1):
    return [
        e.LaunchIntended(run, "boot-1", f"run-{run}.lock", None, "/usr/bin/echo", SHA, 60.0, 256, 10),
        e.Launched(run, 4242, START_NS + 3 * SECOND, 1, ("sandbox-bubblewrap",)),
    ]


def succeeded(job_id="j-1", attempt=1):
    """Eight records, from the offer to DONE."""
    return [
        offered(job_id, attempt),
        e.Acked(30.0),
        e.PrepStarted(),
        *running(),
        e.Ended("exited", 0, None, START_NS + 5 * SECOND, {"cpu_s": 1.5, "max_rss_mb": 9.0}),
        e.OutcomeKnown(None, "", artifacts=(ARTIFACT,)),
        e.Delivered(200),
    ]


def denied(job_id="j-2", attempt=1):
    """Five records, from the offer to FAILED."""
    return [
        offered(job_id, attempt, command="rm"),
        e.Acked(),
        e.PrepStarted(),
        e.OutcomeKnown("E_DENY", 'command: "rm" is not allowed on this node'),
        e.Delivered(200),
    ]


def alive(job_id="j-3", attempt=1):
    """Five records; the process runs."""
    return succeeded(job_id, attempt)[:5]


def entries(events):
    """The events as the supervisor appends them."""
    job, made = NEW, []
    for event in events:
        after = evolve(job, event)
        name = type(event).__name__
        made.append(Entry(name, VERSIONS[name], str(job.state), str(after.state), to_data(event)))
        job = after
    return made


KEY = StreamKey("j-1", 1)


def records(events, key=KEY, boot_id="boot-1"):
    """The events as records, one second apart, a chain that holds."""
    made, head = [], EMPTY
    for number, draft in enumerate(prepare(entries(events))):
        (record,) = chain(key, head, [draft], at_ns=START_NS + number * SECOND, boot_id=boot_id)
        made.append(record)
        head = type(head)(record.seq, record.hash)
    return made


def changed(made, seq, **fields):
    """The records, with fields of one of them changed after it was written."""
    return [replace(record, **fields) if record.seq == seq else record for record in made]


def ticking(step_ns=SECOND):
    return count(START_NS, step_ns).__next__


def write_journal(path, *lives):
    """A closed journal's file with these lives, in this order; the clock ticks a second an append."""

    async def main():
        journal = SqliteJournal(path, boot_id="boot-1", now_ns=ticking())
        for life in lives:
            key = StreamKey(life[0].job_id, life[0].attempt)
            for seq, entry in enumerate(entries(life)):
                await journal.append(key, seq, [entry])
        await journal.close()

    asyncio.run(main())
    return path


def seal(path, *keys):
    """Move streams to the archive beside the journal."""

    async def main():
        journal = SqliteJournal(path, boot_id="boot-1", now_ns=ticking())
        await journal.seal([StreamKey(*key) for key in keys], path.parent / "journal-archive")
        await journal.close()

    asyncio.run(main())


def rot(path, change, *values):
    """Change the database behind the journal's back, as rot or an intruder would; its schema stays as it is."""
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        triggers = [sql for (sql,) in conn.execute("SELECT sql FROM sqlite_master WHERE type = 'trigger'")]
        for (name,) in conn.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            conn.execute(f"DROP TRIGGER {name}")
        assert conn.execute(change, values).rowcount == 1
        for sql in triggers:
            conn.execute(sql)
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def command(*words):
    return [sys.executable, "-P", "-m", "fsm_miner.cli", *map(str, words)]


def environment(**more):
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "VIRTUAL_ENV") if name in os.environ}
    return kept | more


def fsm_miner(*words, prefix=(), **env):
    """Run the command line in a process of its own."""
    return subprocess.run(
        [*prefix, *command(*words)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=environment(**env),
        stdin=subprocess.DEVNULL,
    )


def without_rights():
    """The prefix under which file modes count, for root too."""
    if os.geteuid() != 0:
        return ()
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        lacking("setpriv is missing: apt install util-linux")
    return (
        setpriv,
        "--bounding-set=-dac_override,-dac_read_search",
        "--inh-caps=-dac_override,-dac_read_search",
    )
