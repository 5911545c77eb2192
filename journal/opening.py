"""Opening the journal at start-up, come what may: a damaged database is salvaged, not fatal."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from journal.port import JournalUnavailable
from journal.retention import stamp
from journal.salvage import Salvage, find_damage, finish_swap, salvage
from journal.sqlite import SqliteJournal
from journal.upcast import Upcasters

__all__ = ["open_journal"]


def open_journal(
    path: Path,
    *,
    boot_id: str,
    now_ns: Callable[[], int],
    upcasters: Upcasters | None = None,
    busy_s: float = 5.0,
    chains: bool = True,
) -> tuple[SqliteJournal, Salvage | None]:
    """Open or create the journal at `path`, checked; with a report if it had to be salvaged.

    The check is SQLite's integrity_check and, with `chains`, a rehash of every record. Only one process may open a
    journal this way at a time (the daemon has a lock for that).

    Raises:
        SchemaTooNew: a later release wrote it; nothing was changed.
        JournalUnavailable: the folder can't be read or written, or the disk is full.

    """
    try:
        report = _make_sound(path, now_ns(), chains=chains)
    except OSError as error:
        raise JournalUnavailable(f"{path}: {error}: check the folder, its rights and free space") from error
    journal = SqliteJournal(path, boot_id=boot_id, now_ns=now_ns, upcasters=upcasters, busy_s=busy_s)
    return journal, report


def _make_sound(path: Path, now_ns: int, *, chains: bool) -> Salvage | None:
    interrupted = finish_swap(path)
    if not path.exists() or path.stat().st_size == 0:
        # Empty: its creation was interrupted before anything was in it.
        return Salvage(interrupted, "a salvage or a put-back was interrupted") if interrupted else None
    reason = find_damage(path, chains=chains)
    if reason is not None:
        report = salvage(path, reason, now_ns, stamp(now_ns))
        return replace(report, reason=f"{reason}; and {interrupted} before") if interrupted else report
    if interrupted:
        return Salvage(interrupted, "found earlier; what was interrupted then is now complete")
    return None
