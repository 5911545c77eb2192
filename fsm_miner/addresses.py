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

__all__ = ["AddressPolicy", "AddressRefusedError", "Resolver", "addresses_of", "is_own", "resolve"]

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolver = Callable[[str, int], Awaitable[Sequence[str]]]

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# Of special purpose (IANA's registries), and public addresses to the ipaddress of Python before 3.11.10 and 3.12.4.
_SPECIAL = tuple(map(ipaddress.ip_network, ("192.0.0.0/24", "2001::/23", "3fff::/20")))
# Where clouds answer with their machines' credentials; the usual place, 169.254.169.254, is link-local.
_METADATA = frozenset(
    map(
        ipaddress.ip_address,
        (
            "100.100.100.200",  # Alibaba
            "168.63.129.16",  # Azure, an address that looks public
            "192.0.0.192",  # Oracle
            "fd00:ec2::254",  # AWS
            "fd20:ce::254",  # Google
            "fd00:42::42",  # Scaleway
        ),
    )
)


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
            ip = _innermost(ipaddress.ip_address(address.partition("%")[0]))
        except ValueError:
            return "is no IP address"
        if ip.is_link_local:
            return "is link-local"
        if ip in _METADATA:
            return "is a cloud's metadata service"
        if ip.is_multicast or ip.is_unspecified or (ip.is_reserved and not ip.is_loopback):
            return "is no address of a host"
        # Python takes the old site-local addresses (fec0::/10) for public ones.
        site_local = isinstance(ip, ipaddress.IPv6Address) and ip.is_site_local
        public = ip.is_global and not site_local and not any(ip in network for network in _SPECIAL)
        if not public and not self.trusts(host, port):
            return (
                f"is not public; inputs come from such an address only if {host}:{port} is the coordinator's own "
                "(coordinator.base_url), as network.allow_private is for jobs alone"
            )
        return None


def _innermost(ip: IpAddress) -> IpAddress:
    """Take an IPv4 address out of the IPv6 address that carries it (mapped, NAT64, 6to4)."""
    if not isinstance(ip, ipaddress.IPv6Address):
        return ip
    if ip.ipv4_mapped is not None:
        return ip.ipv4_mapped
    if ip in _NAT64:
        return ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF)
    if ip.sixtofour is not None:
        return ip.sixtofour
    return ip


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
