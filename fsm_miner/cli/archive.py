"""What retention has moved out of the journal: files that hold whole streams and can be verified for ever."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from journal.port import JournalError, Record, StreamKey
from journal.retention import read_export

__all__ = ["archive_files", "find_in_archive"]


def archive_files(folder: Path) -> list[Path]:
    """Return the archive's files, the oldest first; [] if there is no archive."""
    return sorted(folder.glob("journal-*.jsonl.gz"))


def find_in_archive(
    folder: Path, job_id: str, attempt: int | None, exports: Iterable[str]
) -> tuple[StreamKey, Path, Iterator[Record]] | None:
    """Find a job's stream, the newest attempt if none is named; None if it is not there.

    `exports` are the names of the files that the journal says it is in. A journal that was lost says nothing:
    then all are read, the newest first.
    """
    named = [folder / name for name in dict.fromkeys(exports) if Path(name).name == name]
    there = [path for path in named if path.is_file()]
    for path in reversed(there or archive_files(folder)):
        attempts = _attempts(path, job_id)
        wanted = max(attempts, default=None) if attempt is None else attempt
        if wanted is not None and wanted in attempts:
            key = StreamKey(job_id, wanted)
            return key, path, (record for record in read_export(path) if record.key == key)
    return None


def _attempts(path: Path, job_id: str) -> set[int]:
    found: set[int] = set()
    try:
        for record in read_export(path):
            if record.job_id == job_id:
                found.add(record.attempt)
    except (JournalError, OSError):
        # What was read before the damage counts; whoever reads the stream itself hears of it.
        return found
    return found
