"""The dev coordinator's database: one SQLite file, one connection, used in the event loop directly.

`synchronous=NORMAL` in WAL mode: everything committed survives a crash or SIGKILL of the coordinator;
a power cut may lose the last commits. That is enough for a development tool and costs no fsync a call.
"""

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["connect", "row_dict", "transaction"]

SCHEMA_VERSION = 1

_SCHEMA = """
CREATE TABLE jobs (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    job_id TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL,          -- queued, offered, leased, done, failed, cancelled
    attempt INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    runner TEXT NOT NULL,
    queue TEXT,
    gpu INTEGER NOT NULL,
    vram_mb INTEGER NOT NULL,
    tags TEXT NOT NULL,           -- JSON list of what the node must have
    manifest TEXT NOT NULL,       -- JSON, never with secrets in it
    has_secrets INTEGER NOT NULL,
    node_id TEXT,
    deadline REAL,                -- UTC seconds: when the offer or the lease runs out
    cancel INTEGER NOT NULL DEFAULT 0,
    reason TEXT,                  -- for people: why it stands where it stands
    submitted_at REAL NOT NULL,
    finished_at REAL
);
CREATE INDEX jobs_queued ON jobs (priority DESC, seq) WHERE state = 'queued';
CREATE INDEX jobs_deadline ON jobs (deadline) WHERE deadline IS NOT NULL;
CREATE INDEX jobs_open ON jobs (seq) WHERE finished_at IS NULL;
CREATE INDEX jobs_cancel ON jobs (node_id) WHERE cancel = 1;
CREATE TABLE attempts (
    job_id TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    node_id TEXT NOT NULL,
    acked_at REAL NOT NULL,
    ended_at REAL,
    ended TEXT,                   -- result, fail, expired
    PRIMARY KEY (job_id, attempt)
) WITHOUT ROWID;
CREATE TABLE outcomes (
    id INTEGER PRIMARY KEY,
    job_id TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    kind TEXT NOT NULL,           -- result, fail
    node_id TEXT NOT NULL,
    key TEXT NOT NULL,            -- the Idempotency-Key it came with
    body TEXT NOT NULL,           -- JSON: the metadata of a result, the body of a fail
    at REAL NOT NULL,
    deliveries INTEGER NOT NULL,  -- how often it came, the first time included
    UNIQUE (job_id, attempt)
);
CREATE TABLE artifacts (
    job_id TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    path TEXT NOT NULL,
    type TEXT NOT NULL,
    size INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    PRIMARY KEY (job_id, attempt, path)
) WITHOUT ROWID;
CREATE TABLE progress (
    id INTEGER PRIMARY KEY,
    job_id TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    at REAL NOT NULL,
    pct REAL,
    note TEXT NOT NULL,
    log_tail TEXT
);
CREATE INDEX progress_job ON progress (job_id, id);
CREATE TABLE offers (
    id INTEGER PRIMARY KEY,
    answer TEXT NOT NULL,         -- the whole body of one pull answer
    job_id TEXT,
    handed_to TEXT,
    handed_at REAL
);
CREATE INDEX offers_job ON offers (job_id);
CREATE INDEX offers_waiting ON offers (id) WHERE handed_at IS NULL;
CREATE TABLE nodes (
    node_id TEXT PRIMARY KEY,
    descriptor TEXT NOT NULL,
    registered_at REAL NOT NULL,
    registrations INTEGER NOT NULL,
    heartbeat TEXT,
    heartbeat_at REAL,
    heartbeats INTEGER NOT NULL DEFAULT 0,
    commands TEXT NOT NULL DEFAULT '{}'
) WITHOUT ROWID;
CREATE TABLE tokens (
    digest TEXT PRIMARY KEY,      -- SHA-256 of the node token; the token itself is nowhere
    node_id TEXT NOT NULL,
    expires_at REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE uploads (
    upload_id TEXT PRIMARY KEY,
    node_id TEXT NOT NULL,
    job_id TEXT NOT NULL,
    path TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    length INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    key TEXT UNIQUE
) WITHOUT ROWID;
"""


def connect(path: Path) -> sqlite3.Connection:
    """Open the database at `path`, making it when it is not there.

    Raises:
        RuntimeError: it was made by another version of this tool.

    """
    db = sqlite3.connect(path, isolation_level=None, cached_statements=256)
    db.row_factory = sqlite3.Row
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=NORMAL")
    version: int = db.execute("PRAGMA user_version").fetchone()[0]
    if version == 0:
        db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version={SCHEMA_VERSION}; COMMIT;")
    elif version != SCHEMA_VERSION:
        db.close()
        raise RuntimeError(
            f"{path}: made by another version of the dev coordinator (schema {version}, this one has "
            f"{SCHEMA_VERSION}); start with a new --data folder"
        )
    return db


@contextmanager
def transaction(db: sqlite3.Connection) -> Generator[None]:
    """All or nothing: commit at the end of the block, roll back when it raises."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def row_dict(row: sqlite3.Row) -> dict[str, Any]:
    """Turn a row into a plain dictionary."""
    return dict(zip(row.keys(), tuple(row), strict=True))
