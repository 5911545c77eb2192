"""Checking chains, and going on after the first that is broken."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fsm_miner.cli.reading import Sealed
from journal.port import ChainBroken, JournalError, Record, StreamKey
from journal.record import ChainChecker, Head
from journal.retention import read_export

__all__ = ["Findings", "check_archive", "check_records"]

_TICK_RECORDS = 2000


@dataclass(slots=True)
class Findings:
    """What was read, and what is wrong: `bad` has the first bad record of each stream, `trouble` the rest."""

    records: int = 0
    heads: dict[StreamKey, Head] = field(default_factory=dict[StreamKey, Head])
    newest: Record | None = None
    files: int = 0
    archived_streams: int = 0
    archived_records: int = 0
    bad: list[ChainBroken] = field(default_factory=list[ChainBroken])
    trouble: list[str] = field(default_factory=list[str])

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.bad and not self.trouble


def check_records(
    records: Iterable[Record], findings: Findings, tick: Callable[[int], None] | None = None
) -> None:
    """Check records of any number of streams; note heads and the first bad record of each.

    `tick` is told now and then how many records were read. Raises what `records` raises.
    """
    checker = ChainChecker()
    broken: set[StreamKey] = set()
    for record in records:
        findings.records += 1
        findings.newest = record
        if tick is not None and findings.records % _TICK_RECORDS == 0:
            tick(findings.records)
        if record.key in broken:
            continue
        try:
            checker.check(record)
        except ChainBroken as error:
            broken.add(record.key)
            findings.bad.append(error)
            findings.heads[record.key] = checker.head(record.key)
    findings.heads.update(checker.heads())


def check_archive(path: Path, sealed: Sequence[Sealed], findings: Findings) -> None:
    """Check one file of the archive, and that each stream the journal moved there ends where it did then."""
    heads: dict[StreamKey, Head] = {}
    findings.files += 1
    try:
        for record in read_export(path):
            heads[record.key] = Head(record.seq, record.hash)
            findings.archived_records += 1
    except JournalError as error:
        findings.trouble.append(f"{path.name}: {error}")
        return
    except OSError as error:
        findings.trouble.append(f"{path}: {error.strerror}")
        return
    finally:
        findings.archived_streams += len(heads)
    for one in sealed:
        if heads.get(one.key) != Head(one.last_seq, one.last_hash):
            found = heads.get(one.key)
            ends = (
                "is not in it" if found is None else f"ends there at record {found.seq} ({found.hash[:12]}…)"
            )
            findings.trouble.append(
                f"{path.name}: {one.key} {ends}; the journal moved {one.last_seq} records ({one.last_hash[:12]}…) there"
            )
