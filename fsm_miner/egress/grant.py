"""Which hosts a job may reach: what its manifest asks for, if the configuration allows all of it."""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from fsm_miner.addresses import AddressPolicy
from fsm_miner.config.model import Network
from fsm_miner.config.units import parse_host_port

__all__ = ["Grant", "HostAndPort", "grant", "host_and_port", "not_allowed"]

HostAndPort = tuple[str, int]


def host_and_port(text: str) -> HostAndPort:
    """Read `host:port`: a name in lower case, or an address without brackets, as it is compared everywhere.

    Raises:
        ValueError: it is none.

    """
    host, _, port = parse_host_port(text).rpartition(":")
    return host.strip("[]"), int(port)


@dataclass(frozen=True, slots=True)
class Grant:
    """The hosts that a job may reach, and at which addresses."""

    targets: frozenset[HostAndPort]
    policy: AddressPolicy


def not_allowed(asked: Iterable[str], network: Network) -> list[str]:
    """Return what is asked for and not allowed, in its order."""
    allowed = _allowed(network)
    return [text for text in asked if host_and_port(text) not in allowed]


def grant(asked: Iterable[str], network: Network) -> Grant:
    """Return what both name."""
    targets = frozenset(map(host_and_port, asked)) & _allowed(network)
    private = frozenset(map(host_and_port, network.allow_private))
    # An address that the operator wrote himself is meant, whatever kind it is of.
    literal = frozenset(one for one in map(host_and_port, network.allow) if _is_address(one[0]))
    return Grant(targets, AddressPolicy(targets & (private | literal)))


def _allowed(network: Network) -> frozenset[HostAndPort]:
    return frozenset(map(host_and_port, (*network.allow, *network.allow_private)))


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
