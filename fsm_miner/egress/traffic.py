"""What a job has moved, also across a restart of the daemon: it is part of what the coordinator is told."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self, cast

__all__ = ["Traffic"]

_BYTES_MAX = 4096
_COUNT_MAX = 1 << 62


@dataclass(slots=True)
class Traffic:
    """Bytes to and from the hosts that a job reached, connections made to them, and wishes refused."""

    sent_bytes: int = 0
    received_bytes: int = 0
    connections: int = 0
    refused: int = 0

    def as_usage(self) -> dict[str, int]:
        """Return it as the result tells it."""
        return asdict(self)

    def save(self, path: Path) -> None:
        """Write it down.

        Raises:
            OSError: it can't be written.

        """
        staged = path.with_name(f"{path.name}.new")
        staged.write_text(json.dumps(self.as_usage()))
        staged.replace(path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what an earlier daemon wrote; nothing moved where there is nothing to be read."""
        try:
            with path.open("rb") as file:
                found: object = json.loads(file.read(_BYTES_MAX))
        except (OSError, ValueError):
            return cls()
        counts = cast("dict[str, Any]", found) if isinstance(found, dict) else {}
        return cls(**{one.name: _count(counts.get(one.name)) for one in fields(cls)})


def _count(value: object) -> int:
    return value if type(value) is int and 0 <= value <= _COUNT_MAX else 0
