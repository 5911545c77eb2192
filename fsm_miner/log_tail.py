"""The end of a run's log, made fit to be shown, and the progress a job reports in it.

The log is a stranger's: it may hold terminal escapes, half characters, one line of a gigabyte. Only its
last bytes are read, and only printable text leaves here.

How a job reports progress (documented for authors of jobs): a line of its own on standard output or
error, with a number from 0 to 100, either way:

    progress: 42.5%
    FSM_MINER_PROGRESS 42.5
"""

import os
import re
import unicodedata
from pathlib import Path

from fsm_miner.beneath import NotRegularError, NotThereError, open_regular
from fsm_miner.redaction import Redactor

__all__ = ["last_line", "parse_progress", "read_tail", "readable", "tail_of"]

_TAIL_BYTES = 8192
# ECMA-48: control sequences (CSI), strings (OSC, DCS, SOS, PM, APC) up to their end, other escapes.
_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[ -/]*[0-~]?"
)
_PROGRESS = re.compile(
    # Possessive: blanks are never given back, or 8000 of them would be tried in 8000 ways.
    r"^[ \t]*+(?:progress:[ \t]*+|FSM_MINER_PROGRESS[ \t]++)([0-9]{1,3}+(?:\.[0-9]{1,6}+)?+)[ \t]*+%?+[ \t]*+$",
    re.ASCII | re.MULTILINE,
)
# Control, format (bidirectional overrides, zero width), surrogate, private use, line and paragraph separators.
_UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})


def read_tail(log: Path, max_bytes: int = _TAIL_BYTES, redactor: Redactor | None = None) -> str:
    """Return the readable end of a log: at most `max_bytes` of it, whole lines if it was cut.

    What `redactor` knows is taken out, also where the beginning is cut away or the end is not written yet.

    Nothing there, or no regular file, is an empty text. Reads a few pages, mostly from memory.

    Raises:
        OSError: the disk cannot be read.

    """
    assert max_bytes > 0
    try:
        fd = open_regular(log.parent, log.name)
    except (NotThereError, NotRegularError):
        return ""
    try:
        return tail_of(fd, max_bytes, redactor)
    finally:
        os.close(fd)


def tail_of(fd: int, max_bytes: int = _TAIL_BYTES, redactor: Redactor | None = None) -> str:
    """Do the same for an open file; its offset does not matter and stays."""
    size = os.fstat(fd).st_size
    margin = 0 if redactor is None else redactor.longest
    start = max(size - max_bytes - margin, 0)
    data = os.pread(fd, max_bytes + margin, start)
    if redactor is not None:
        # The first bytes may be the end of a secret that begins before them: they only serve to find others.
        data = redactor.redact_end(data, margin if start > 0 else 0)
    cut = start > 0 or len(data) > max_bytes
    text = readable(_from_a_line(data[-max_bytes:]) if cut else data)
    # Again: what is made readable may read as a secret that was none before.
    return text if redactor is None else redactor.redact(text)


def readable(data: bytes) -> str:
    r"""Return bytes of a log as text that does nothing to a terminal, a log viewer or a web page's layout.

    Of a line that was written over with carriage returns (progress bars) the last version stays. Escape
    sequences vanish; other control and invisible characters become U+FFFD; `\n` and `\t` stay.
    """
    text = _ESCAPES.sub("", data.decode("utf-8", "replace"))
    return "\n".join(_harmless(_last_version(line)) for line in text.split("\n"))


def last_line(text: str, max_chars: int = 200) -> str:
    """Return the last line of a readable text that has something in it, cut to `max_chars`."""
    for line in reversed(text.split("\n")):
        if line.strip():
            return line.strip()[:max_chars]
    return ""


def parse_progress(text: str) -> float | None:
    """Return the last progress a readable text reports, 0 to 100; None if there is none."""
    found = [float(number) for number in _PROGRESS.findall(text)]
    valid = [pct for pct in found if pct <= 100]
    return valid[-1] if valid else None


def _from_a_line(data: bytes) -> bytes:
    """Drop the first line, which lost its beginning, unless it is all there is."""
    breaks = [at for at in (data.find(b"\n"), data.find(b"\r")) if at >= 0]
    rest = data[min(breaks) + 1 :] if breaks else b""
    # Bytes 10xxxxxx continue a character whose beginning was cut away.
    return rest or data.lstrip(bytes(range(0x80, 0xC0)))


def _last_version(line: str) -> str:
    return next((version for version in reversed(line.split("\r")) if version), "")


def _harmless(line: str) -> str:
    if line.isascii() and line.isprintable():
        return line
    return "".join(
        char if char == "\t" or unicodedata.category(char) not in _UNPRINTABLE else "\ufffd" for char in line
    )
