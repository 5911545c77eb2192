"""What is asked of the database. Each statement is answered with the help of an index of the schema, but for ALL."""

from journal.schema import FINAL_STATES

__all__ = [
    "AFTER",
    "ALL",
    "BY_STREAM",
    "COLUMNS",
    "EXPIRED",
    "FINAL",
    "FIRST",
    "INSERT",
    "STREAM",
    "STREAMS",
]

COLUMNS = "job_id, attempt, seq, at_ns, boot_id, event, version, source, dest, data_json, prev, hash"
ALL = f"SELECT {COLUMNS} FROM records ORDER BY n"  # noqa: S608 - a constant
STREAM = f"SELECT {COLUMNS} FROM records WHERE job_id = ? AND attempt = ? ORDER BY seq"  # noqa: S608 - a constant
INSERT = f"INSERT INTO records ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 - a constant
# The oldest first: by the place of each stream's first record.
STREAMS = "SELECT job_id, attempt FROM records WHERE seq = 1 ORDER BY n"
# In the order of the key: the index has it, and a stream's rows lie near each other.
BY_STREAM = f"SELECT {COLUMNS} FROM records ORDER BY job_id, attempt, seq"  # noqa: S608 - a constant
AFTER = (
    f"SELECT {COLUMNS} FROM records WHERE (job_id, attempt, seq) > (?, ?, ?) "  # noqa: S608 - a constant
    "ORDER BY job_id, attempt, seq LIMIT ?"
)
# Each is answered by its partial index alone (schema 2). Their order is that of the key.
FIRST = "SELECT job_id, attempt FROM records INDEXED BY records_first WHERE seq = 1"
FINAL = (
    "SELECT job_id, attempt, dest, at_ns FROM records INDEXED BY records_final "  # noqa: S608 - a constant
    f"WHERE dest IN ({', '.join(repr(state) for state in FINAL_STATES)})"
)
EXPIRED = f"{FINAL} AND at_ns < ? ORDER BY at_ns, job_id, attempt LIMIT ?"
