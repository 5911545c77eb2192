"""What a node says in a pull about the jobs that it can take, and how that reads as SQL."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from coordinator_checks import Refusal, integer, items, mapping

__all__ = ["Filters"]


@dataclass(frozen=True, slots=True)
class Filters:
    """A pull's filters; None means that the node did not say, so nothing is filtered by it."""

    runners: Sequence[str] | None = None
    cpu_slots: int | None = None
    vram_free_mb: int | None = None
    tags: frozenset[str] | None = None
    queues: Sequence[str] | None = None

    def where(self) -> tuple[str, list[Any]]:
        """Return the SQL condition over the table `jobs`, tags left out, and its values."""
        where: list[str] = ["state = 'queued'"]
        values: list[Any] = []
        for column, wanted in (("runner", self.runners), ("queue", self.queues)):
            if wanted is not None:
                where.append(f"({column} IS NULL OR {column} IN ({', '.join('?' * len(wanted))}))")
                values.extend(wanted)
        if self.cpu_slots is not None and self.cpu_slots < 1:
            where.append("gpu = 1")
        if self.vram_free_mb is not None:
            where.append("(gpu = 0 OR vram_mb <= ?)")
            values.append(self.vram_free_mb)
        return " AND ".join(where), values

    def has_tags(self, wanted_json: str) -> bool:
        """Whether the node has all tags of a JSON list."""
        return self.tags is None or wanted_json == "[]" or self.tags.issuperset(json.loads(wanted_json))

    @staticmethod
    def parse(raw: Any) -> "Filters":
        """Read the `filters` of a pull request."""
        if raw is None:
            return Filters()
        if not isinstance(raw, dict):
            raise Refusal(422, "filters: an object is needed")
        raw = mapping(raw)
        gpus = raw.get("gpus")
        tags = _strings(raw, "tags")
        return Filters(
            runners=_strings(raw, "runners"),
            cpu_slots=None if raw.get("cpu_slots") is None else integer(raw, "cpu_slots"),
            vram_free_mb=None if gpus is None else _largest(gpus),
            tags=None if tags is None else frozenset(tags),
            queues=_strings(raw, "queues"),
        )


def _strings(raw: dict[str, Any], name: str) -> list[str] | None:
    value = raw.get(name)
    if value is None:
        return None
    strings = items(value, f"filters.{name}", count_max=256)
    if not all(isinstance(item, str) for item in strings):
        raise Refusal(422, f"filters.{name}: strings are needed")
    return strings


def _largest(gpus: Any) -> int:
    """Return the free MiB of the emptiest card, -1 when there is no card at all."""
    cards = items(gpus, "filters.gpus", count_max=256)
    return max((integer(card, "vram_free_mb") for card in cards), default=-1)
