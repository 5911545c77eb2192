"""The Retry-After header (RFC 9110, section 10.2.3): seconds, or a date."""

import re
from collections.abc import Callable
from datetime import UTC
from email.utils import parsedate_to_datetime

__all__ = ["RETRY_AFTER_S_MAX", "retry_after_s"]

RETRY_AFTER_S_MAX = 3600.0
_SECONDS = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,6})?")


def retry_after_s(header: str | None, now_ns: Callable[[], int]) -> float | None:
    """Return the seconds to wait, within 0 and 3600; None where the header is absent or unreadable."""
    if header is None or len(header) > 64:
        return None
    text = header.strip()
    if _SECONDS.fullmatch(text):
        wait = float(text)
    else:
        try:
            at = parsedate_to_datetime(text)
            # HTTP dates are in GMT; a date without a zone is taken as such.
            wait = (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - now_ns() / 1e9
        except (ValueError, TypeError, OverflowError, IndexError):
            return None
    return min(max(wait, 0.0), RETRY_AFTER_S_MAX)
