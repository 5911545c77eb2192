"""Small files of the kernel: read with a bound, and absent rather than an error."""

from pathlib import Path

__all__ = ["read_number", "read_text"]

FILE_BYTES_MAX = 1 << 20


def read_text(path: Path) -> str | None:
    """Return the file's stripped text (at most 1 MiB); None if it is absent or the kernel refuses to answer."""
    try:
        with path.open("rb") as file:
            return file.read(FILE_BYTES_MAX).decode("utf-8", "replace").strip()
    except OSError:
        return None


def read_number(path: Path) -> int | None:
    """Return the file's decimal number, or None."""
    text = read_text(path)
    return int(text) if text is not None and text.isascii() and text.isdecimal() and len(text) < 20 else None
