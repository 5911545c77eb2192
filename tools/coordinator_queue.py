"""The dev coordinator's jobs: queue, offers, leases, outcomes.

    queued ──pull──► offered ──ack──► leased ──result──► done
      ▲                 │               │ ├───fail─────► failed · cancelled
      └──offer ran out──┘               │ └───fail, retryable, attempts left──► queued, attempt + 1
      └────────────lease ran out, attempts left: attempt + 1──┘

An offer that nobody acknowledged goes back with the same attempt (nobody ran it). A lease that ran out goes
back with the next attempt, because the old one may still be running somewhere: its late outcome gets 409.
An attempt has at most one outcome; the same delivery again is counted and answered 200.
"""

import json
import secrets
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from coordinator_checks import JOB_ID, Refusal, integer, job_requirements, mapping, text
from coordinator_db import transaction
from coordinator_filters import Filters

__all__ = ["FINAL", "Artifact", "JobQueue", "Policy"]

FINAL = frozenset({"done", "failed", "cancelled"})
PROGRESS_KEPT = 500
LOG_TAIL_CHARS_MAX = 65536


@dataclass(frozen=True, slots=True)
class Policy:
    """Times in seconds."""

    lease_s: float = 30.0
    offer_s: float = 10.0
    attempts_max: int = 3


@dataclass(frozen=True, slots=True)
class Artifact:
    """One delivered file, as stored."""

    path: str
    type: str
    size: int
    sha256: str


class JobQueue:
    """Every method is one short transaction. `wake` is called when something became available or final."""

    def __init__(
        self,
        db: sqlite3.Connection,
        policy: Policy,
        *,
        clock: Callable[[], float] = time.time,
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        self._db = db
        self._policy = policy
        self._clock = clock
        self._wake = wake
        # Secrets stay in memory: a job that has some does not outlive a restart of the coordinator.
        self._secrets: dict[str, dict[str, Any]] = {}
        db.execute(
            "UPDATE jobs SET state = 'failed', node_id = NULL, deadline = NULL, finished_at = ?, reason = "
            "'the coordinator restarted and keeps secrets in memory only: submit the job again' "
            "WHERE has_secrets AND state IN ('queued', 'offered')",
            (clock(),),
        )

    # Submitting.

    def submit(self, manifests: Sequence[Any]) -> list[str]:
        """Queue manifests, all or none; returns their job ids (made up where missing)."""
        with transaction(self._db):
            ids = [self._submit_one(manifest) for manifest in manifests]
        self._wake()
        return ids

    def _submit_one(self, manifest: Any) -> str:
        if not isinstance(manifest, dict):
            raise Refusal(422, "a manifest is a JSON object")
        manifest = {"job_id": f"j-{time.strftime('%Y%m%d')}-{secrets.token_hex(4)}", "attempt": 1} | mapping(
            manifest
        )
        job_id = text(manifest, "job_id")
        if not JOB_ID.fullmatch(job_id):
            raise Refusal(422, f"job_id: must match {JOB_ID.pattern}; raw ones go through /admin/offers")
        gpu, vram_mb, tags = job_requirements(manifest)
        hidden: Any = manifest.pop("secrets", None) or {}
        if not isinstance(hidden, dict):
            raise Refusal(422, "secrets: an object is needed")
        queue = None if manifest.get("queue") is None else text(manifest, "queue")
        values = (
            job_id,
            integer(manifest, "attempt", low=1),
            integer(manifest, "priority", 0, low=-(2**31)),
            text(manifest, "runner"),
            queue,
            gpu,
            vram_mb,
            json.dumps(tags),
            json.dumps(manifest),
            bool(mapping(hidden)),
            self._clock(),
        )
        try:
            self._db.execute(
                "INSERT INTO jobs (job_id, state, attempt, priority, runner, queue, gpu, vram_mb, tags, manifest, "
                "has_secrets, submitted_at) VALUES (?, 'queued', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                values,
            )
        except sqlite3.IntegrityError as error:
            raise Refusal(409, f"{job_id}: there is a job of that name already") from error
        if hidden:
            self._secrets[job_id] = mapping(hidden)
        return job_id

    def submit_raw(self, answer: Any) -> None:
        """Queue one whole body for a pull answer, of any shape, handed out once as it is."""
        job_id = mapping(mapping(answer).get("job")).get("job_id")
        self._db.execute(
            "INSERT INTO offers (answer, job_id) VALUES (?, ?)",
            # printable: SQLite takes no half of a surrogate pair
            (json.dumps(answer), job_id if isinstance(job_id, str) and job_id.isprintable() else None),
        )
        self._wake()

    # Handing out.

    def raw_offer(self, node_id: str) -> str | None:
        """Take the oldest waiting raw answer (JSON text) for `node_id`, or None."""
        row = self._db.execute(
            "SELECT id, answer FROM offers WHERE handed_at IS NULL ORDER BY id LIMIT 1"
        ).fetchone()
        if row is None:
            return None
        self._db.execute(
            "UPDATE offers SET handed_to = ?, handed_at = ? WHERE id = ?", (node_id, self._clock(), row["id"])
        )
        return row["answer"]

    def has(self, filters: Filters) -> bool:
        """Whether a pull with these filters would get something now."""
        raw = self._db.execute("SELECT 1 FROM offers WHERE handed_at IS NULL LIMIT 1").fetchone()
        return raw is not None or self._find(filters) is not None

    def offer(self, node_id: str, filters: Filters) -> dict[str, Any] | None:
        """Take the first fitting job, highest priority first, then the oldest; returns its manifest."""
        row = self._find(filters)
        if row is None:
            return None
        self._db.execute(
            "UPDATE jobs SET state = 'offered', node_id = ?, deadline = ? WHERE seq = ?",
            (node_id, self._clock() + self._policy.offer_s, row["seq"]),
        )
        manifest = json.loads(row["manifest"]) | {"attempt": row["attempt"]}
        if row["has_secrets"]:
            manifest["secrets"] = self._secrets[row["job_id"]]
        return manifest

    def _find(self, filters: Filters) -> sqlite3.Row | None:
        where, values = filters.where()
        query = (
            "SELECT seq, job_id, attempt, tags, manifest, has_secrets FROM jobs "  # noqa: S608 (fixed words)
            f"WHERE {where} ORDER BY priority DESC, seq"
        )
        cursor = self._db.execute(query, values)
        try:
            return next((row for row in cursor if filters.has_tags(row["tags"])), None)
        finally:
            cursor.close()

    def ack(self, job_id: str, node_id: str, attempt: int | None) -> float | None:
        """Give `node_id` the lease; returns its seconds, None for a raw offer. Again is harmless."""
        row = self._row(job_id)
        if row is None:
            self._need_raw(job_id)
            return None
        if row["state"] in FINAL:
            raise Refusal(410, f"{job_id}: {row['state']}")
        ours = row["node_id"] == node_id
        if attempt not in (None, row["attempt"]) or not (ours or row["state"] == "queued"):
            raise Refusal(409, f"{job_id}: somebody else's, or another attempt (now {row['attempt']})")
        now = self._clock()
        with transaction(self._db):
            self._db.execute(
                "UPDATE jobs SET state = 'leased', node_id = ?, deadline = ? WHERE seq = ?",
                (node_id, now + self._policy.lease_s, row["seq"]),
            )
            self._db.execute(
                "INSERT INTO attempts (job_id, attempt, node_id, acked_at) VALUES (?, ?, ?, ?) "
                "ON CONFLICT DO NOTHING",
                (job_id, row["attempt"], node_id, now),
            )
        return self._policy.lease_s

    # While it runs.

    def renew(self, node_id: str, running: Sequence[tuple[str, int]]) -> list[str]:
        """Renew the leases of what the node says it runs; returns which of its jobs to cancel."""
        deadline = self._clock() + self._policy.lease_s
        if running:
            with transaction(self._db):
                self._db.executemany(
                    "UPDATE jobs SET deadline = ? "
                    "WHERE job_id = ? AND attempt = ? AND node_id = ? AND state = 'leased'",
                    [(deadline, job_id, attempt, node_id) for job_id, attempt in running],
                )
        rows = self._db.execute(
            "SELECT job_id FROM jobs WHERE node_id = ? AND cancel = 1 AND state = 'leased'", (node_id,)
        )
        return [row["job_id"] for row in rows]

    def progress(self, job_id: str, node_id: str, pct: float | None, note: str, log_tail: str | None) -> bool:
        """Keep a progress report (the last 500 of a job); returns whether the job shall stop."""
        row = self._row(job_id)
        if row is None:
            self._need_raw(job_id)
            return False
        if row["node_id"] != node_id or row["state"] != "leased":
            raise Refusal(409, f"{job_id}: not leased by {node_id}")
        now = self._clock()
        tail = None if log_tail is None else log_tail[-LOG_TAIL_CHARS_MAX:]
        with transaction(self._db):
            self._db.execute(
                "UPDATE jobs SET deadline = ? WHERE seq = ?", (now + self._policy.lease_s, row["seq"])
            )
            self._db.execute(
                "INSERT INTO progress (job_id, attempt, at, pct, note, log_tail) VALUES (?, ?, ?, ?, ?, ?)",
                (job_id, row["attempt"], now, pct, note, tail),
            )
            self._db.execute(
                "DELETE FROM progress WHERE id IN (SELECT id FROM progress WHERE job_id = ? "
                "ORDER BY id DESC LIMIT -1 OFFSET ?)",
                (job_id, PROGRESS_KEPT),
            )
        self._wake()
        return bool(row["cancel"])

    # The outcome.

    def is_repeat(self, job_id: str, node_id: str, attempt: int, kind: str, key: str) -> bool:
        """Whether exactly this delivery was taken before. Refuses what the coordinator moved on from."""
        known = self._db.execute(
            "SELECT kind, node_id, key FROM outcomes WHERE job_id = ? AND attempt = ?", (job_id, attempt)
        ).fetchone()
        if known is not None:
            if tuple(known) == (kind, node_id, key):
                return True
            raise Refusal(409, f"{job_id}/{attempt}: has another outcome already ({known['kind']})")
        row = self._row(job_id)
        if row is None:
            self._need_raw(job_id)
        elif row["state"] in FINAL:
            raise Refusal(410, f"{job_id}: {row['state']}")
        elif (row["state"], row["node_id"], row["attempt"]) != ("leased", node_id, attempt):
            raise Refusal(409, f"{job_id}/{attempt}: not leased by {node_id} (now attempt {row['attempt']})")
        return False

    def count_repeat(self, job_id: str, attempt: int) -> None:
        """Count a delivery that came again."""
        self._db.execute(
            "UPDATE outcomes SET deliveries = deliveries + 1 WHERE job_id = ? AND attempt = ?",
            (job_id, attempt),
        )

    def result(
        self, job_id: str, node_id: str, attempt: int, key: str, metadata: str, artifacts: Sequence[Artifact]
    ) -> None:
        """Record a success whose files are stored already. `metadata` is JSON text."""
        if self.is_repeat(job_id, node_id, attempt, "result", key):
            return self.count_repeat(job_id, attempt)
        with transaction(self._db):
            self._record(job_id, node_id, attempt, "result", key, metadata)
            self._db.executemany(
                "INSERT OR REPLACE INTO artifacts VALUES (?, ?, ?, ?, ?, ?)",
                [(job_id, attempt, a.path, a.type, a.size, a.sha256) for a in artifacts],
            )
            self._finish(job_id, "done", None)
        self._wake()
        return None

    def fail(self, job_id: str, node_id: str, attempt: int, key: str, body: dict[str, Any]) -> None:
        """Record a failure, and queue the next attempt where the failure allows one."""
        if self.is_repeat(job_id, node_id, attempt, "fail", key):
            return self.count_repeat(job_id, attempt)
        code = text(body, "error_code")
        with transaction(self._db):
            self._record(job_id, node_id, attempt, "fail", key, json.dumps(body))
            if code == "E_CANCELLED":
                self._finish(job_id, "cancelled", None)
            elif body.get("retryable") is True:
                self._again(job_id, attempt, f"attempt {attempt} failed with {code}")
            else:
                self._finish(job_id, "failed", code)
        self._wake()
        return None

    def _record(self, job_id: str, node_id: str, attempt: int, kind: str, key: str, body: str) -> None:
        now = self._clock()
        self._db.execute(
            "INSERT INTO outcomes (job_id, attempt, kind, node_id, key, body, at, deliveries) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, 1)",
            (job_id, attempt, kind, node_id, key, body, now),
        )
        self._end_attempt(job_id, attempt, kind)

    def _end_attempt(self, job_id: str, attempt: int, how: str) -> None:
        self._db.execute(
            "UPDATE attempts SET ended_at = ?, ended = ? WHERE job_id = ? AND attempt = ?",
            (self._clock(), how, job_id, attempt),
        )

    def _finish(self, job_id: str, state: str, reason: str | None) -> None:
        self._db.execute(
            "UPDATE jobs SET state = ?, reason = ?, deadline = NULL, finished_at = ? WHERE job_id = ?",
            (state, reason, self._clock(), job_id),
        )
        self._secrets.pop(job_id, None)

    def _again(self, job_id: str, attempt: int, reason: str) -> None:
        row = self._row(job_id)
        if row is None:  # a raw offer: nobody queues it again
            return
        if row["cancel"]:
            self._finish(job_id, "cancelled", reason)
        elif attempt >= self._policy.attempts_max:
            self._finish(job_id, "failed", f"{reason}; no attempt is left")
        elif row["has_secrets"] and job_id not in self._secrets:
            self._finish(job_id, "failed", f"{reason}; its secrets were lost in a restart: submit it again")
        else:
            self._db.execute(
                "UPDATE jobs SET state = 'queued', attempt = ?, node_id = NULL, deadline = NULL, reason = ? "
                "WHERE job_id = ?",
                (attempt + 1, reason, job_id),
            )

    # From outside.

    def cancel(self, job_id: str) -> str:
        """Cancel: at once where nobody runs it, through the node otherwise; returns the state now."""
        row = self._row(job_id)
        if row is None:
            raise Refusal(404, f"{job_id}: no such job")
        if row["state"] in {"queued", "offered"}:
            self._finish(job_id, "cancelled", "cancelled before it started")
            self._wake()
            return "cancelled"
        if row["state"] == "leased":
            self._db.execute("UPDATE jobs SET cancel = 1 WHERE job_id = ?", (job_id,))
        return row["state"]

    def reconcile(self, node_id: str, jobs: Sequence[tuple[str, int]]) -> dict[str, str]:
        """Say for each (job, attempt) whether this node goes on with it; renews the leases of those."""
        return {job_id: self._verdict(node_id, job_id, attempt) for job_id, attempt in jobs}

    def _verdict(self, node_id: str, job_id: str, attempt: int) -> str:
        delivered = self._db.execute(
            "SELECT 1 FROM outcomes WHERE job_id = ? AND attempt = ? AND node_id = ?",
            (job_id, attempt, node_id),
        ).fetchone()
        if delivered is not None:  # the answer was lost on its way: let the node deliver again and hear 200
            return "continue"
        row = self._row(job_id)
        if row is None:
            handed = self._db.execute("SELECT 1 FROM offers WHERE job_id = ?", (job_id,)).fetchone()
            return "abandon" if handed is None else "continue"
        mine = row["node_id"] == node_id and row["state"] in {"offered", "leased"}
        if not mine or row["attempt"] != attempt:
            return "abandon"
        self.renew(node_id, [(job_id, attempt)])
        return "continue"

    def sweep(self) -> int:
        """Take back offers and leases that ran out; returns how many."""
        now = self._clock()
        rows = self._db.execute(
            "SELECT job_id, state, attempt, node_id FROM jobs WHERE deadline <= ?", (now,)
        ).fetchall()
        if not rows:
            return 0
        with transaction(self._db):
            for row in rows:
                if row["state"] == "offered":
                    self._db.execute(
                        "UPDATE jobs SET state = 'queued', node_id = NULL, deadline = NULL WHERE job_id = ?",
                        (row["job_id"],),
                    )
                else:
                    self._end_attempt(row["job_id"], row["attempt"], "expired")
                    self._again(
                        row["job_id"],
                        row["attempt"],
                        f"attempt {row['attempt']}: lease of {row['node_id']} ran out",
                    )
        self._wake()
        return len(rows)

    def _row(self, job_id: str) -> sqlite3.Row | None:
        return self._db.execute("SELECT * FROM jobs WHERE job_id = ?", (job_id,)).fetchone()

    def _need_raw(self, job_id: str) -> None:
        handed = self._db.execute(
            "SELECT 1 FROM offers WHERE job_id = ? AND handed_at IS NOT NULL", (job_id,)
        ).fetchone()
        if handed is None:
            raise Refusal(404, f"{job_id[:80]!r}: no such job")
