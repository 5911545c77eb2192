"""The secrets of jobs: in this process's memory only, from the offer to the job's end, and taken out of what is shown.

A daemon that was started anew does not know them any more. What it can't search for secrets it does not show: the
log of such a job is withheld, on the disk too.
"""

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from threading import Lock

from pydantic import SecretStr

from fsm_miner.config.secret import Secret
from fsm_miner.log_tail import read_tail
from fsm_miner.offload import offload
from fsm_miner.redaction import Redactor, redact_file
from fsm_miner.supervisor import key_of
from journal.port import StreamKey
from runners.handed import open_handed
from states.job import Job

__all__ = ["WITHHELD_LOG", "JobSecrets"]

WITHHELD_LOG = (
    "fsm-miner: this log is withheld: the job's secrets can't be taken out of it, for a restart of the daemon made it "
    "forget them, or the disk takes no clean copy\n"
)
_GROWTH_BYTES_MAX = 1024 * 1024


class _Known:
    """A job's secrets, and what finds them: made when it is first needed, for long secrets take a while."""

    def __init__(self, secrets: Mapping[str, SecretStr]) -> None:
        self._secrets = secrets
        self._lock = Lock()
        self._redactor: Redactor | None = None

    def values(self) -> dict[str, str]:
        return {name: secret.get_secret_value() for name, secret in self._secrets.items()}

    def redactor(self) -> Redactor:
        with self._lock:
            if self._redactor is None:
                self._redactor = Redactor(Secret(value) for value in self.values().values())
            return self._redactor

    def log_tail(self, log: Path) -> str:
        return read_tail(log, redactor=self.redactor())

    def clean(self, log: Path) -> None:
        _clean(log, self.redactor())


class JobSecrets:
    """Belongs to one event loop; what it hands out may be called from threads."""

    def __init__(self) -> None:
        self._known: dict[StreamKey, _Known] = {}

    def keep(self, key: StreamKey, secrets: Mapping[str, SecretStr]) -> None:
        """Hold a job's secrets until it is over; none lets go of them."""
        if secrets:
            self._known[key] = _Known(secrets)
        else:
            self._known.pop(key, None)

    def forget(self, job: Job) -> None:
        """Let go of the secrets of a job that is over."""
        self._known.pop(key_of(job), None)

    def of(self, job: Job) -> dict[str, str]:
        """Return what is known of the job's secrets, by name."""
        known = self._known.get(key_of(job))
        return {} if known is None else known.values()

    def words(self, job: Job, words: str) -> str:
        """Return words of the job without secrets; "" if they can't be told from secrets any more."""
        if not _has(job):
            return words
        known = self._known.get(key_of(job))
        return "" if known is None else known.redactor().redact(words)

    def log_tail(self, job: Job) -> Callable[[Path], str]:
        """Return what reads the end of the job's log for showing it; for a thread."""
        if not _has(job):
            return read_tail
        known = self._known.get(key_of(job))
        return _nothing if known is None else known.log_tail

    async def clean_log(self, job: Job, log: Path) -> None:
        """Take the secrets out of the log of a run that has ended, or its content if they are not known any more."""
        if _has(job):
            known = self._known.get(key_of(job))
            await offload(partial(_clean, log, None) if known is None else partial(known.clean, log))


def _has(job: Job) -> bool:
    return bool(job.manifest.get("secret_names"))


def _nothing(_log: Path) -> str:
    return ""


def _clean(log: Path, redactor: Redactor | None) -> None:
    try:
        source = open_handed(log, os.O_RDONLY)
    except FileNotFoundError:
        return
    with os.fdopen(source, "rb") as content:
        if redactor is not None and _replace(log, content.fileno(), redactor):
            return
    # It needs no room: what can't be cleaned is not kept.
    try:
        with log.open("r+b", buffering=0) as file:
            file.truncate()
            file.write(WITHHELD_LOG.encode())
    except OSError:
        log.unlink(missing_ok=True)


def _replace(log: Path, source: int, redactor: Redactor) -> bool:
    """Put a clean copy in the place of the log; False if the disk refuses it."""
    staged = log.with_name(f"{log.name}.clean")
    try:
        staged.unlink(missing_ok=True)
        fd = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
        with os.fdopen(os.dup(source), "rb") as content, os.fdopen(fd, "wb") as target:
            # One-letter secrets would make eleven bytes of two.
            bytes_max = 2 * os.fstat(source).st_size + _GROWTH_BYTES_MAX
            redact_file(content, target, redactor, bytes_max=bytes_max)
            target.flush()
            os.fsync(target.fileno())
        staged.replace(log)
    except OSError:
        staged.unlink(missing_ok=True)
        return False
    return True
