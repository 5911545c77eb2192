"""Upcasting: old events are read as if written today.

What is stored never changes (the hash covers it); `Upcasters.record` translates on the way out, after the
chain was verified on the bytes as stored.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from journal.port import JournalError, Record
from journal.record import canonical_json

__all__ = ["Upcaster", "Upcasters", "VersionUnknown"]

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]


class VersionUnknown(JournalError):
    """The journal holds an event newer than this program knows: it was written by a later release."""


class Upcasters:
    """A table `{(event, version): function}`; each function turns data of that version into the next one's.

    Every event starts at version 1; its newest version is one more than the highest in the table, or 1.

    Raises:
        ValueError: an event's versions have a hole.

    """

    def __init__(self, table: Mapping[tuple[str, int], Upcaster] | None = None) -> None:
        self._table = dict(table or {})
        self._newest: dict[str, int] = {}
        for event, version in self._table:
            self._newest[event] = max(self._newest.get(event, 1), version + 1)
        for event, newest in self._newest.items():
            for version in range(1, newest):
                if (event, version) not in self._table:
                    raise ValueError(f"no upcaster takes {event} from version {version} to {version + 1}")

    def newest(self, event: str) -> int:
        """Return the version of `event` that this program writes and understands."""
        return self._newest.get(event, 1)

    def record(self, record: Record) -> Record:
        """Return `record` in its event's newest version. Its `hash` and `prev` stay those of the stored one.

        Raises:
            VersionUnknown: it is newer than this program.

        """
        newest = self._newest.get(record.event, 1)
        if record.version == newest:
            return record
        if record.version > newest:
            raise VersionUnknown(
                f"{record.key}: record {record.seq}: {record.event} has version {record.version}, this program "
                f"knows {newest}: run the release that wrote it, or a later one"
            )
        data = record.data
        for version in range(record.version, newest):
            data = self._table[record.event, version](data)
        return replace(record, version=newest, data_json=canonical_json(data))

    def check_writable(self, event: str, version: int) -> None:
        """Refuse to write what could not be read back.

        Raises:
            ValueError: `version` is newer than the newest.

        """
        newest = self._newest.get(event, 1)
        if version > newest:
            raise ValueError(
                f"{event} version {version} could not be read back: the newest known is {newest}"
            )
