"""Durations and addresses as people write them: `24h`, `1h30m`, `127.0.0.1:9470`."""

import ipaddress
import re
from dataclasses import dataclass
from datetime import timedelta

__all__ = ["DURATION_MAX", "Listen", "format_duration", "parse_duration", "parse_host_port", "parse_listen"]

DURATION_MAX = timedelta(days=36500)

_DURATION = re.compile(r"(?:([0-9]{1,6})d)?(?:([0-9]{1,7})h)?(?:([0-9]{1,9})m)?(?:([0-9]{1,10})s)?", re.ASCII)
_HOST_NAME = re.compile(
    r"(?=.{1,253}\Z)[A-Za-z0-9]([A-Za-z0-9-]{0,62})(\.[A-Za-z0-9][A-Za-z0-9-]{0,62})*", re.ASCII
)
_PORT = re.compile(r"[0-9]{1,5}", re.ASCII)


def parse_duration(text: str) -> timedelta:
    """Read `7d`, `24h`, `90m`, `30s`, or several of them from the largest down: `1h30m`.

    Raises:
        ValueError: it is none, or longer than a hundred years; the message says what is expected.

    """
    found = _DURATION.fullmatch(text)
    if found is None or not text:
        raise ValueError("must be a duration such as 7d, 24h, 90m, 30s or 1h30m")
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    length = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    if length > DURATION_MAX:
        raise ValueError(f"must be a duration of at most {DURATION_MAX.days}d")
    return length


def format_duration(length: timedelta) -> str:
    """Write a duration so that `parse_duration` reads it back. Parts of a second are dropped."""
    left = int(length.total_seconds())
    parts: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


@dataclass(frozen=True, slots=True)
class Listen:
    """An IP address and a TCP port to listen on. Port 0 is any free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return ipaddress.ip_address(self.host).is_loopback


def parse_listen(text: str) -> Listen:
    """Read `127.0.0.1:9470` or `[::1]:9470`.

    Raises:
        ValueError: it is none; the message says what is expected.

    """
    host, port = _split(text, "127.0.0.1:9470 or [::1]:9470", 0)
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise ValueError(
            "must start with an IP address, such as 127.0.0.1 (a name could mean several)"
        ) from None
    return Listen(str(address), port)


def parse_host_port(text: str) -> str:
    """Check `host:port`, the host a name or an address, and return it in lower case.

    Raises:
        ValueError: it is none; the message says what is expected.

    """
    host, port = _split(text, "example.org:443", 1)
    if ":" in host:
        return f"[{ipaddress.ip_address(host)}]:{port}"
    if not _HOST_NAME.fullmatch(host):
        raise ValueError("must start with a host's name or address")
    return f"{host.lower()}:{port}"


def _split(text: str, example: str, least_port: int) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not _PORT.fullmatch(port):
        raise ValueError(f"must be an address and a port, such as {example}")
    if not least_port <= int(port) <= 65535:
        raise ValueError(f"must have a port from {least_port} to 65535")
    bracketed = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if bracketed else host
    if bracketed or ":" in host:
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            raise ValueError(f"must be an address and a port, such as {example}") from None
        if not bracketed:
            raise ValueError("must have brackets around an IPv6 address, such as [::1]:9470")
    return host, int(port)
