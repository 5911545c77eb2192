"""Journals that fail on purpose, for the tests of everything above the port."""

from collections.abc import Sequence

from journal.port import Entry, Journal, JournalUnavailable, Record, StreamKey

__all__ = ["FailingJournal", "FailsOnNth"]


class FailingJournal:
    """Every append raises JournalUnavailable; reading goes to `under`, or finds nothing."""

    def __init__(self, under: Journal | None = None) -> None:
        self._under = under

    async def append(self, key: StreamKey, expected_seq: int, entries: Sequence[Entry]) -> tuple[Record, ...]:
        """Raise JournalUnavailable."""
        raise JournalUnavailable(
            f"{key}: {len(entries)} entries after {expected_seq}: this journal always fails"
        )

    def read(self, key: StreamKey) -> list[Record]:
        """Return what the journal underneath has."""
        return self._under.read(key) if self._under else []

    def streams(self) -> list[StreamKey]:
        """Return the streams of the journal underneath."""
        return self._under.streams() if self._under else []

    async def probe(self) -> None:
        """Raise JournalUnavailable."""
        raise JournalUnavailable("this journal always fails")

    async def close(self) -> None:
        """Close the journal underneath."""
        if self._under:
            await self._under.close()


class FailsOnNth:
    """Passes on to `under`, but the appends whose numbers (from 1) are in `fail_on` raise JournalUnavailable.

    With `kept`, the failing append is written before it is reported as failed: a crash between the two.
    """

    def __init__(self, under: Journal, *fail_on: int, kept: bool = False) -> None:
        self._under = under
        self._fail_on = frozenset(fail_on)
        self._kept = kept
        self.appends = 0

    async def append(self, key: StreamKey, expected_seq: int, entries: Sequence[Entry]) -> tuple[Record, ...]:
        """Append, or raise JournalUnavailable when this append's turn to fail has come."""
        self.appends += 1
        if self.appends not in self._fail_on:
            return await self._under.append(key, expected_seq, entries)
        if self._kept:
            await self._under.append(key, expected_seq, entries)
        raise JournalUnavailable(f"{key}: append number {self.appends} fails on purpose")

    def read(self, key: StreamKey) -> list[Record]:
        """Return what the journal underneath has."""
        return self._under.read(key)

    def streams(self) -> list[StreamKey]:
        """Return the streams of the journal underneath."""
        return self._under.streams()

    async def probe(self) -> None:
        """Ask the journal underneath; this is no append and is not counted."""
        await self._under.probe()

    async def close(self) -> None:
        """Close the journal underneath."""
        await self._under.close()
