"""What people and tests may read about jobs."""

import json
import sqlite3
from typing import Any

from coordinator_checks import Refusal
from coordinator_db import row_dict

__all__ = ["Views"]


class Views:
    """Read-only."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def job(self, job_id: str) -> dict[str, Any]:
        """Return everything about one job; for a raw offer's id, what was delivered for it."""
        outcomes = [_decoded(row, "body") for row in self._rows("outcomes", job_id, "id")]
        row = self._db.execute("SELECT * FROM jobs WHERE job_id = ?", (job_id,)).fetchone()
        if row is None and not outcomes:
            raise Refusal(404, f"{job_id[:80]!r}: no such job")
        view = {"job_id": job_id, "state": "raw"} if row is None else _decoded(row, "manifest", "tags")
        return view | {
            "attempts": [row_dict(row) for row in self._rows("attempts", job_id, "attempt")],
            "outcomes": outcomes,
            "result_calls": sum(o["deliveries"] for o in outcomes if o["kind"] == "result"),
            "fail_calls": sum(o["deliveries"] for o in outcomes if o["kind"] == "fail"),
            "progress": [row_dict(row) for row in self._rows("progress", job_id, "id")],
            "artifacts": [row_dict(row) for row in self._rows("artifacts", job_id, "attempt, path")],
        }

    def is_over(self, job_id: str) -> bool:
        """Whether the job is final; 404 for one that does not exist."""
        row = self._db.execute("SELECT finished_at FROM jobs WHERE job_id = ?", (job_id,)).fetchone()
        if row is None:
            raise Refusal(404, f"{job_id[:80]!r}: no such job")
        return row["finished_at"] is not None

    def all_over(self) -> bool:
        """Whether no job is unfinished."""
        return self._db.execute("SELECT 1 FROM jobs WHERE finished_at IS NULL LIMIT 1").fetchone() is None

    def jobs(self, state: str | None, limit: int) -> list[dict[str, Any]]:
        """Return one line for each of the newest jobs."""
        rows = self._db.execute(
            "SELECT job_id, state, attempt, priority, runner, queue, node_id, cancel, reason, submitted_at, "
            "finished_at FROM jobs WHERE ? IS NULL OR state = ? ORDER BY seq DESC LIMIT ?",
            (state, state, limit),
        )
        return [row_dict(row) for row in rows]

    def counts(self) -> dict[str, int]:
        """Return the number of jobs by state."""
        return {row[0]: row[1] for row in self._db.execute("SELECT state, count(*) FROM jobs GROUP BY state")}

    def outcomes(self) -> list[dict[str, Any]]:
        """Return all outcomes, those of raw offers included, oldest first."""
        return [_decoded(row, "body") for row in self._db.execute("SELECT * FROM outcomes ORDER BY id")]

    def _rows(self, table: str, job_id: str, order: str) -> list[sqlite3.Row]:
        query = f"SELECT * FROM {table} WHERE job_id = ? ORDER BY {order}"  # noqa: S608 (our own words)
        return self._db.execute(query, (job_id,)).fetchall()


def _decoded(row: sqlite3.Row, *names: str) -> dict[str, Any]:
    view = row_dict(row)
    return view | {name: json.loads(view[name]) for name in names}
