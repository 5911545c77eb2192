"""The journal: append-only, hash-chained streams of facts, one stream for each attempt of a job.

How it hangs together, from the promise to the disk:

    port        what a journal is: Entry, Record, StreamKey, Journal, and the errors
    record      an entry becomes canonical bytes and a hash over them and the record before
    upcast      old events are read as if written today; what is stored never changes
    memory      the twin without a disk, and `failing`, which fails on purpose: both for tests
    schema      the tables, the triggers that forbid UPDATE and DELETE, the migrations
    presence    whether the open files still have their names, and putting them back
    put_back    what a put-back leaves on the disk, and finishing it at the next start
    writer      the thread that owns the connection: everything that waits shares one commit
    reader      reading beside the writer, or without one, and changing nothing
    sqlite      the durable backend, made of the three above
    retention   old streams leave as a file that can be verified for ever, then the database
    salvage     a damaged database is set aside whole, what can be read goes into a fresh one
    opening     `open_journal`: check, salvage if need be, open. The daemon starts, whatever it finds

An append is durable when its await returns. When its task is cancelled meanwhile it is kept or not, as a whole;
reading tells. The chain is verified on the bytes as stored, whenever they are read; upcasting comes after.
"""

from journal.failing import FailingJournal, FailsOnNth
from journal.memory import MemoryJournal
from journal.onlooker import Damaged
from journal.opening import open_journal
from journal.port import (
    AppendConflict,
    ChainBroken,
    Entry,
    Journal,
    JournalDamaged,
    JournalError,
    JournalUnavailable,
    Record,
    StreamKey,
    StreamSealed,
)
from journal.reader import Reader, open_reader
from journal.record import GENESIS, Head, canonical_json, verify_chain
from journal.retention import Expiry, ExportBroken, read_export
from journal.salvage import Salvage
from journal.schema import SchemaTooNew
from journal.sqlite import SqliteJournal
from journal.upcast import Upcasters, VersionUnknown

__all__ = [
    "GENESIS",
    "AppendConflict",
    "ChainBroken",
    "Damaged",
    "Entry",
    "Expiry",
    "ExportBroken",
    "FailingJournal",
    "FailsOnNth",
    "Head",
    "Journal",
    "JournalDamaged",
    "JournalError",
    "JournalUnavailable",
    "MemoryJournal",
    "Reader",
    "Record",
    "Salvage",
    "SchemaTooNew",
    "SqliteJournal",
    "StreamKey",
    "StreamSealed",
    "Upcasters",
    "VersionUnknown",
    "canonical_json",
    "open_journal",
    "open_reader",
    "read_export",
    "verify_chain",
]
