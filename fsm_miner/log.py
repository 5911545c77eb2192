"""Logging: one JSON object a line, `ts, level, node_id, job_id, event, attrs` (section 12 of the specification).

`event` is a short constant such as `job_state`; whatever belongs to it stands in `attrs`. Bind `job_id` to get
it into its own field. What libraries log from WARNING up arrives in the same place.

The file takes what a machine reads; standard error what a person reads, unless it is the only output.
"""

import json
import logging
import re
import time
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol, TextIO, cast

import structlog
from structlog.typing import FilteringBoundLogger

from fsm_miner.log_output import LogFile, LogStream, wants_colour, writes_to_journal
from fsm_miner.log_values import TEXT_MAX, exception_of, plain, traceback_text
from fsm_miner.redaction import Redactor

__all__ = ["RECORD_MAX", "BoundLogger", "LogSettings", "NodeLog", "configure_logging"]

BoundLogger = FilteringBoundLogger
"""What code logs with: `log.info("job_state", source="PULLING")`, `log.bind(job_id=...)`, `log.exception(...)`."""

RECORD_MAX = 64 * 1024
"""The most characters of one line; of a larger record only the names of its attributes are kept."""

_LEVELS: Mapping[str, int] = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
_SAME_LEVEL: Mapping[str, str] = {"warn": "warning", "exception": "error", "fatal": "critical"}
_PRIORITY: Mapping[str, int] = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
_COLOUR: Mapping[str, int] = {"debug": 2, "info": 32, "warning": 33, "error": 31, "critical": 31}
_BARE = re.compile(r"[A-Za-z0-9_.:/@%+-]+", re.ASCII)

Record = dict[str, Any]


class LogSettings(Protocol):
    """The `logging` section of the configuration, as far as it matters here."""

    @property
    def level(self) -> str:
        """The least level that is logged."""
        ...

    @property
    def as_json(self) -> bool:
        """Whether the machine's form is JSON."""
        ...

    @property
    def path(self) -> Any:
        """The file, or None."""
        ...


@dataclass(frozen=True, slots=True)
class NodeLog:
    """The configured logging of this process: `logger` to log with, and the outputs behind it."""

    logger: BoundLogger
    _file: LogFile | None
    _stderr: LogStream
    _bridge: logging.Handler
    _bridged: logging.Logger
    _output: "_Output"

    @property
    def dropped(self) -> int:
        """How many lines were lost since the start."""
        return self._stderr.dropped + (0 if self._file is None else self._file.dropped)

    @property
    def trouble(self) -> str | None:
        """Why lines to the file are being lost; None while they are not."""
        return None if self._file is None else self._file.trouble

    def resume(self) -> None:
        """Try to write to the file again, if it could not be written to: nobody else may log for hours."""
        self._output.resume()

    def reopen(self) -> None:
        """Open the log file anew before the next line (SIGHUP). Safe in a signal handler."""
        if self._file is not None:
            self._file.reopen()

    def close(self) -> None:
        """Take the bridge down and close the file."""
        self._bridged.removeHandler(self._bridge)
        if self._file is not None:
            self._file.close()


def configure_logging(
    settings: LogSettings,
    node_id: str,
    redactor: Redactor,
    *,
    stderr: TextIO,
    environ: Mapping[str, str],
    bridge: logging.Logger,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    monotonic: Callable[[], float] = time.monotonic,
) -> NodeLog:
    """Set logging up, once in a process; raises nothing, whatever state the disk is in.

    Args:
        settings: level, form and file.
        node_id: stands in every record.
        redactor: knows the secrets; more may be added to it at any time.
        stderr: standard error.
        environ: read for JOURNAL_STREAM, NO_COLOR and TERM.
        bridge: the logger of the standard library whose warnings are taken over (the root one).
        now: the wall clock.
        monotonic: the clock for looking after the file, in seconds.

    """
    stream = LogStream(stderr)
    journal = writes_to_journal(stderr, environ)
    human = _Human(colour=not journal and wants_colour(stderr, environ), journal=journal)
    machine = _json if settings.as_json else _Human(colour=False, journal=False)

    def failing(message: str) -> None:
        attrs = {"message": redactor.redact(message)}
        stream.write(human(recorder.record("error", None, "log.failing", attrs)))

    recorder = _Recorder(node_id, redactor, now)
    file = None if settings.path is None else LogFile(settings.path, monotonic, failing)
    output = _Output(recorder, file, machine, stream, machine if file is None and settings.as_json else human)
    logger = structlog.wrap_logger(
        output,
        processors=[recorder],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[settings.level]),
        context_class=dict,
        cache_logger_on_first_use=False,
    ).bind()
    handler = _Bridge(recorder, output)
    bridge.addHandler(handler)
    return NodeLog(cast("BoundLogger", logger), file, stream, handler, bridge, output)


class _Recorder:
    """Makes the record: the one processor of the chain. Redacts and bounds everything in it."""

    def __init__(self, node_id: str, redactor: Redactor, now: Callable[[], datetime]) -> None:
        self._node_id = node_id
        self._redactor = redactor
        self._now = now

    def __call__(
        self, _logger: Any, method: str, fields: MutableMapping[str, Any]
    ) -> tuple[tuple[Record], dict[str, Any]]:
        event, job_id = fields.pop("event", None), fields.pop("job_id", None)
        return (self.record(method, job_id, event, fields),), {}

    def record(self, level: str, job_id: object, event: object, attrs: Mapping[str, Any]) -> Record:
        """Put a record together."""
        attrs = dict(attrs)
        info = exception_of(attrs.pop("exc_info", None))
        if info is not None:
            attrs["exc"] = None
        shown: Record = {
            "ts": self._now().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "level": _SAME_LEVEL.get(level, level),
            "node_id": plain(self._node_id, self._redactor),
            "job_id": None if job_id is None else _as_text(plain(job_id, self._redactor)),
            "event": _as_text(plain(event, self._redactor)),
            "attrs": plain(attrs, self._redactor),
        }
        if info is not None:
            shown["attrs"]["exc"] = traceback_text(info, self._redactor)
        return shown


class _Output:
    """What structlog wraps: takes a record and writes it wherever it belongs."""

    def __init__(
        self,
        recorder: _Recorder,
        file: LogFile | None,
        for_file: Callable[[Record], str],
        stream: LogStream,
        for_stream: Callable[[Record], str],
    ) -> None:
        self._recorder = recorder
        self._file = file
        self._for_file = for_file
        self._stream = stream
        self._for_stream = for_stream

    def write(self, record: Record) -> None:
        """Write a record, and after an outage of the file how much was lost."""
        self._stream.write(self._for_stream(record))
        if self._file is None:
            return
        lost = self._file.write(self._for_file(record))
        if lost:
            self._stream.write(self._for_stream(self._resumed(lost)))
            self._file.write(self._for_file(self._resumed(lost)))

    def resume(self) -> None:
        """End an outage of the file, if it works again."""
        if self._file is None:
            return
        lost = self._file.resume(lambda lines: self._for_file(self._resumed(lines)))
        if lost:
            self._stream.write(self._for_stream(self._resumed(lost)))

    def _resumed(self, lost: int) -> Record:
        return self._recorder.record("warning", None, "log.resumed", {"lost_lines": lost})

    # The names under which structlog calls its wrapped logger.
    debug = info = warning = warn = error = exception = critical = fatal = write


class _Bridge(logging.Handler):
    """Takes over what libraries log through the standard library, from WARNING up."""

    def __init__(self, recorder: _Recorder, output: _Output) -> None:
        super().__init__(logging.WARNING)
        self._recorder = recorder
        self._output = output

    def emit(self, record: logging.LogRecord) -> None:
        attrs: dict[str, Any] = {"logger": record.name, "exc_info": record.exc_info}
        try:
            attrs["message"] = record.getMessage()
        except Exception as error:  # noqa: BLE001 - a library's broken format string must not bring its caller down
            attrs |= {"message": record.msg, "format_error": type(error).__name__}
        level = next(
            (name for name, least in reversed(list(_LEVELS.items())) if record.levelno >= least), "debug"
        )
        self._output.write(self._recorder.record(level, None, "library.log", attrs))


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _json(record: Record) -> str:
    # ASCII only: nothing in a log can move a cursor, turn text around or end a line.
    line = json.dumps(record, ensure_ascii=True, allow_nan=False)
    if len(line) <= RECORD_MAX:
        return line
    return json.dumps(_shortened(record, len(line)), ensure_ascii=True, allow_nan=False)


def _shortened(record: Record, size: int) -> Record:
    names = [name[:64] for name in record["attrs"]]
    small = {
        key: value[: TEXT_MAX // 8] if isinstance(value, str) else value for key, value in record.items()
    }
    return small | {"attrs": {"oversized": size, "names": names}}


class _Human:
    """Writes a record for people: time, level, event, job, attributes; the traceback below."""

    def __init__(self, *, colour: bool, journal: bool) -> None:
        self._colour = colour
        self._journal = journal

    def __call__(self, record: Record) -> str:
        level: str = record["level"]
        attrs: Mapping[str, Any] = record["attrs"]
        words = [
            f"\x1b[{_COLOUR.get(level, 0)}m{level:<8}\x1b[0m" if self._colour else f"{level:<8}",
            _word(record["event"]),
        ]
        if record["job_id"] is not None:
            words.append(f"job_id={_word(record['job_id'])}")
        words += [f"{_word(name)}={_word(value)}" for name, value in attrs.items() if name != "exc"]
        lines = [" ".join(words)[:RECORD_MAX]]
        if "exc" in attrs:
            lines += [f"    {_line(line)}" for line in _as_text(attrs["exc"]).split("\n")]
        # The journal keeps the time itself, and takes the priority from the line's start (sd-daemon(3)).
        start = f"<{_PRIORITY.get(level, 6)}>" if self._journal else ""
        lines[0] = lines[0] if self._journal else f"{record['ts']} {lines[0]}"
        return "\n".join(start + line for line in lines)


def _word(value: Any) -> str:
    if isinstance(value, str) and _BARE.fullmatch(value):
        return value
    return json.dumps(value, ensure_ascii=True, allow_nan=False)


def _line(text: str) -> str:
    return json.dumps(text, ensure_ascii=True)[1:-1].replace('\\"', '"').replace("\\\\", "\\")
