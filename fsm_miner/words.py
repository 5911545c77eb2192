"""Words, times, spans and sizes as people read them."""

from datetime import UTC, datetime

__all__ = ["NS", "clean", "counted", "size", "span", "utc"]

NS = 1_000_000_000
_TEXT_MAX = 2000
_UNITS = ("KiB", "MiB", "GiB", "TiB")


def clean(text: str, chars_max: int = _TEXT_MAX) -> str:
    """Return `text` on one line, without anything that could steer a terminal, cut after `chars_max`."""
    cut = text if len(text) <= chars_max else text[: chars_max - 1] + "…"
    if cut.isprintable():
        return cut
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in cut
    )


def utc(at_ns: int) -> str:
    """Return a time (UTC, nanoseconds since the epoch) to the millisecond: `2026-07-26 21:35:06.123`."""
    seconds, rest_ns = divmod(at_ns, NS)
    try:
        text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return f"{at_ns} ns"
    return f"{text}.{rest_ns // 1_000_000:03d}"


def span(seconds: float) -> str:
    """Return a length of time in at most two units: `0.012s`, `12.3s`, `4m05s`, `3h07m`, `2d04h`."""
    if seconds < 0:
        return f"-{span(-seconds)}"
    if seconds < 9.9995:
        return f"{seconds:.3f}s"
    if seconds < 59.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"


def size(size_bytes: int) -> str:
    """Return a size: `11 B`, `4.2 MiB`."""
    if size_bytes < 1024:
        return f"{size_bytes} B"
    power = min((size_bytes.bit_length() - 1) // 10, len(_UNITS))
    return f"{size_bytes / 1024**power:.1f} {_UNITS[power - 1]}"


def counted(number: int, what: str) -> str:
    """Return `1 record`, `2 records`."""
    return f"{number} {what}{'' if number == 1 else 's'}"
