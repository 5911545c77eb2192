"""The secrets of jobs: in this process's memory only, from the offer to the job's end, and taken out of what is shown.

The log of such a job is in memory, too, for as long as it runs; what goes to the disk is without them. A daemon that
was started anew knows neither. What it can't search for secrets it does not show: the log is withheld.
"""

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from threading import Event, Lock
from typing import BinaryIO

from pydantic import SecretStr

from fsm_miner.config.secret import Secret
from fsm_miner.log_tail import read_tail, tail_of
from fsm_miner.offload import offload
from fsm_miner.redaction import Redactor, redact_file
from fsm_miner.supervisor import key_of
from journal.port import StreamKey
from runners.log import RunLog
from states.job import Job

__all__ = ["WITHHELD_LOG", "JobSecrets"]

WITHHELD_LOG = (
    "fsm-miner: this log is withheld: the job's secrets can't be taken out of it, for a restart of the daemon made it "
    "forget both, or the disk takes no clean copy\n"
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

    def log_tail(self, log: RunLog) -> str:
        return _log_tail(log, self.redactor())

    def clean(self, log: RunLog, stop: Event) -> None:
        _clean(log, stop, self.redactor())


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

    def log_tail(self, job: Job) -> Callable[[RunLog], str]:
        """Return what reads the end of the job's log for showing it; for a thread."""
        if not _has(job):
            return _log_tail
        known = self._known.get(key_of(job))
        return _nothing if known is None else known.log_tail

    async def clean_log(self, job: Job, log: RunLog) -> None:
        """Put the log of a run that has ended on the disk, without the secrets; or, if that can't be, words instead."""
        if _has(job):
            known = self._known.get(key_of(job))
            stop = Event()  # many secrets take minutes to find in a large log
            clean = partial(_clean, log) if known is None else partial(known.clean, log)
            await offload(partial(clean, stop), stop=stop)


def _has(job: Job) -> bool:
    return bool(job.manifest.get("secret_names"))


def _nothing(_log: RunLog) -> str:
    return ""


def _log_tail(log: RunLog, redactor: Redactor | None = None) -> str:
    if log.memory is None:
        return read_tail(log.path, redactor=redactor)
    return tail_of(log.memory.fd, redactor=redactor)


def _clean(log: RunLog, stop: Event, redactor: Redactor | None = None) -> None:
    try:
        if redactor is not None:
            with os.fdopen(log.open(), "rb") as content:
                # One-letter secrets would make eleven bytes of two.
                bytes_max = 2 * log.size() + _GROWTH_BYTES_MAX
                content.seek(0)
                _put(
                    log.path,
                    lambda target: redact_file(content, target, redactor, bytes_max=bytes_max, stop=stop),
                )
            return
    except OSError:
        pass
    try:
        _put(log.path, lambda target: target.write(WITHHELD_LOG.encode()))
    except OSError:
        log.path.unlink(missing_ok=True)  # what can't be cleaned is not kept


def _put(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file anew, durably, in the place of one that may be there; or raise OSError, and leave that."""
    staged = path.with_name(f"{path.name}.clean")
    try:
        staged.unlink(missing_ok=True)
        fd = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
        with os.fdopen(fd, "wb") as target:
            write(target)
            target.flush()
            os.fsync(target.fileno())
        staged.replace(path)
    except OSError:
        staged.unlink(missing_ok=True)
        raise
