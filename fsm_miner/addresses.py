"""Which addresses strangers' names may lead to, enforced where the connection is made.

A job's or an input's host is a stranger's word, and the daemon connects outside of any sandbox. So the address that
is really connected to is judged, not the name: a name that answers differently the second time (DNS rebinding), a
redirect, or a number in disguise (`http://2130706433/`) gains nothing.
"""

import asyncio
import contextlib
import ipaddress
import socket
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import httpx

from fsm_miner.address_kinds import is_public, nobodys

__all__ = ["AddressPolicy", "AddressRefusedError", "Resolver", "addresses_of", "is_own", "resolve"]

Resolver = Callable[[str, int], Awaitable[Sequence[str]]]


class AddressRefusedError(Exception):
    """A host has no address that it may be reached at. Names both."""


@dataclass(frozen=True, slots=True)
class AddressPolicy:
    """Public addresses are fine; others only for `trusted` hosts; some never.

    `trusted` holds (host, port) in lower case, as they stand in the URL: for inputs the coordinator's own, for jobs
    what the configuration says. Never: link-local addresses and other metadata services of clouds, multicast,
    unspecified and reserved addresses, whoever names them.
    """

    trusted: frozenset[tuple[str, int]] = frozenset()

    @classmethod
    def for_coordinator(cls, base_url: str, *more: tuple[str, int]) -> "AddressPolicy":
        """Trust the host and port of `base_url`, and of `more`."""
        url = httpx.URL(base_url)
        port = url.port or {"http": 80, "https": 443}[url.scheme]
        return cls(frozenset({(url.host.lower(), port), *((host.lower(), at) for host, at in more)}))

    def trusts(self, host: str, port: int) -> bool:
        """Whether this host may have an address that is not public."""
        return (host.lower(), port) in self.trusted

    def refusal(self, host: str, port: int, address: str) -> str | None:
        """Say why `host:port` must not be reached at `address`; None if it may."""
        try:
            ip = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return "is no IP address"
        never = nobodys(ip)
        if never is not None:
            return never
        if not is_public(ip) and not self.trusts(host, port):
            return (
                f"is not public; inputs come from such an address only if {host}:{port} is the coordinator's own "
                "(coordinator.base_url), as network.allow_private is for jobs alone"
            )
        return None


async def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of `host`, best first, as the system's resolver orders them.

    The resolver can't be interrupted, and takes half a minute for a name whose servers are silent. So each lookup has
    a thread that nobody waits for: it keeps none of the loop's from other work, and the daemon from no end.

    Raises:
        OSError: the name does not resolve, or no thread can be had.
        ValueError: it can't be a name.

    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[str]] = loop.create_future()

    def tell(found: list[str], problem: Exception | None) -> None:
        if answer.done():  # given up meanwhile
            return
        if problem is None:
            answer.set_result(found)
        else:
            answer.set_exception(problem)

    def look_up() -> None:
        found: list[str] = []
        problem: Exception | None = None
        try:
            infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            found = [str(sockaddr[0]) for *_, sockaddr in infos]
        except (OSError, ValueError) as error:  # a UnicodeError is one of the latter
            problem = error
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(tell, found, problem)

    try:
        threading.Thread(target=look_up, name="resolve", daemon=True).start()
    except RuntimeError as error:
        raise OSError(f"no thread for looking up {host}: {error}") from error
    return await answer


async def addresses_of(host: str, port: int, policy: AddressPolicy, resolver: Resolver) -> list[str]:
    """Return where `host:port` may be reached, best first; empty if it has no address at all.

    Raises:
        AddressRefusedError: it has addresses, and none of them is allowed.
        OSError, UnicodeError: the name does not resolve.

    """
    addresses = await resolver(host, port)
    allowed = [address for address in addresses if policy.refusal(host, port, address) is None]
    if addresses and not allowed:
        reason = policy.refusal(host, port, addresses[0])
        raise AddressRefusedError(f"{host}:{port}: {addresses[0]} {reason}")
    return allowed


def is_own(address: str) -> bool:
    """Whether an IP address is this machine's, however public. Sends nothing.

    What listens there may take whoever comes from this machine for one of its own, as its firewall does.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))
            ours = str(probe.getsockname()[0])
    except OSError:
        return False  # nothing leads there
    return ipaddress.ip_address(ours) == ipaddress.ip_address(address)
