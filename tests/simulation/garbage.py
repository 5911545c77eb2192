"""Nonsense that a coordinator may send, as it comes through the client: decoded, and meaning nothing."""

from typing import Any

__all__ = ["MANIFESTS", "NOBODYS"]

NOBODYS = ("nobody's", "../../etc", "")
"""Jobs that nobody knows."""

MANIFESTS: tuple[Any, ...] = (
    None,
    [],
    "job",
    17,
    {},
    {"job_id": None},
    {"job_id": ""},
    {"job_id": "../../etc/passwd", "runner": "cli", "command": "true"},
    {"job_id": ["j-0"]},
    {"job_id": "nobody-1", "attempt": -1, "runner": "cli", "command": "true"},
    {"job_id": "nobody-2", "attempt": 10**30, "runner": "cli", "command": "true"},
    {"job_id": "nobody-3", "attempt": 1.5, "runner": "cli", "command": "true"},
    {"job_id": "nobody-4"},
    {"job_id": "nobody-5", "runner": "shell", "command": "true", "timeout_s": -1},
    {"job_id": "nobody-6", "runner": "cli", "command": "true", "timeout_s": 1e308},
    {"job_id": "nobody-7", "runner": "cli", "command": "true", "requirements": {"gpu": "yes"}},
    {"job_id": "nobody-8", "runner": "cli", "command": "true", "args": [{}] * 100},
    {"job_id": "nobody-9", "runner": "cli", "command": "true", "secrets": "no mapping"},
)
