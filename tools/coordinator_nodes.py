"""The dev coordinator's nodes: descriptors, tokens, heartbeats, and the commands that ride on them."""

import hashlib
import hmac
import json
import secrets
import sqlite3
import time
from collections.abc import Callable
from typing import Any

from coordinator_checks import Refusal, text
from coordinator_db import row_dict, transaction

__all__ = ["Nodes"]


class Nodes:
    """Who may speak. Node tokens are random, expire after `token_ttl_s`, and are stored only as SHA-256."""

    def __init__(
        self,
        db: sqlite3.Connection,
        bootstrap_token: str,
        *,
        token_ttl_s: float = 3600.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._db = db
        self._bootstrap = bootstrap_token.encode()
        self._ttl_s = token_ttl_s
        self._clock = clock
        self._known: dict[str, tuple[str, float]] = {
            row["digest"]: (row["node_id"], row["expires_at"])
            for row in db.execute("SELECT digest, node_id, expires_at FROM tokens")
        }

    def is_bootstrap(self, token: str) -> bool:
        """Whether `token` is the bootstrap token."""
        return hmac.compare_digest(token.encode(), self._bootstrap)

    def register(self, descriptor: Any) -> tuple[str, float]:
        """Take a node in; returns its new token and the seconds until that expires. Older ones stay valid."""
        node_id = text(descriptor, "node_id", chars_max=128)
        token = secrets.token_urlsafe(32)
        digest, now = _digest(token), self._clock()
        with transaction(self._db):
            self._db.execute("DELETE FROM tokens WHERE expires_at <= ?", (now,))
            self._db.execute("INSERT INTO tokens VALUES (?, ?, ?)", (digest, node_id, now + self._ttl_s))
            self._db.execute(
                "INSERT INTO nodes (node_id, descriptor, registered_at, registrations) VALUES (?, ?, ?, 1) "
                "ON CONFLICT (node_id) DO UPDATE SET descriptor = excluded.descriptor, "
                "registered_at = excluded.registered_at, registrations = registrations + 1",
                (node_id, json.dumps(descriptor), now),
            )
        self._known = {d: known for d, known in self._known.items() if known[1] > now}
        self._known[digest] = (node_id, now + self._ttl_s)
        return token, self._ttl_s

    def node_of(self, token: str) -> str | None:
        """Return the node that a token belongs to, None for an unknown or expired one."""
        node_id, expires_at = self._known.get(_digest(token), (None, 0.0))
        return node_id if expires_at > self._clock() else None

    def revoke(self, node_id: str) -> int:
        """Make all tokens of a node invalid now; returns how many there were."""
        self._db.execute("DELETE FROM tokens WHERE node_id = ?", (node_id,))
        before = len(self._known)
        self._known = {digest: known for digest, known in self._known.items() if known[0] != node_id}
        return before - len(self._known)

    def heartbeat(self, node_id: str, beat: dict[str, Any]) -> dict[str, Any]:
        """Keep a heartbeat; returns the node's standing commands."""
        self._db.execute(
            "INSERT INTO nodes "
            "(node_id, descriptor, registered_at, registrations, heartbeat, heartbeat_at, heartbeats) "
            "VALUES (?, '{}', ?, 0, ?, ?, 1) ON CONFLICT (node_id) DO UPDATE SET heartbeat = excluded.heartbeat, "
            "heartbeat_at = excluded.heartbeat_at, heartbeats = heartbeats + 1",
            (node_id, self._clock(), json.dumps(beat), self._clock()),
        )
        row = self._db.execute("SELECT commands FROM nodes WHERE node_id = ?", (node_id,)).fetchone()
        return json.loads(row["commands"])

    def command(self, node_id: str, commands: dict[str, Any]) -> dict[str, Any]:
        """Merge standing commands (`drain`, `cache_hints`, `pin`) into the node's; null removes one."""
        unknown = commands.keys() - {"drain", "cache_hints", "pin"}
        if unknown:
            raise Refusal(
                422, f"{', '.join(sorted(unknown))}: no such command; there are drain, cache_hints, pin"
            )
        row = self._db.execute("SELECT commands FROM nodes WHERE node_id = ?", (node_id,)).fetchone()
        if row is None:
            raise Refusal(404, f"{node_id}: no such node")
        merged = {k: v for k, v in (json.loads(row["commands"]) | commands).items() if v is not None}
        self._db.execute("UPDATE nodes SET commands = ? WHERE node_id = ?", (json.dumps(merged), node_id))
        return merged

    def list(self) -> list[dict[str, Any]]:
        """Return every node with its descriptor, last heartbeat and commands."""
        nodes = [row_dict(row) for row in self._db.execute("SELECT * FROM nodes ORDER BY node_id")]
        for node in nodes:
            for name in ("descriptor", "heartbeat", "commands"):
                node[name] = None if node[name] is None else json.loads(node[name])
        return nodes


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
