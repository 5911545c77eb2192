"""Kinds of IP addresses: those that nobody reaches from here, whoever names them, and those that are public. Pure."""

import ipaddress

__all__ = ["is_public", "nobodys"]

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

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


def nobodys(ip: IpAddress) -> str | None:
    """Say why nobody may reach the address, as the end of a sentence on it; None if somebody may."""
    ip = _innermost(ip)
    if ip.is_link_local:
        return "is link-local"
    if ip in _METADATA:
        return "is a cloud's metadata service"
    if ip.is_multicast or ip.is_unspecified or (ip.is_reserved and not ip.is_loopback):
        return "is no address of a host"
    return None


def is_public(ip: IpAddress) -> bool:
    """Whether it is an address of the internet, and not of a network of one's own or of this machine."""
    ip = _innermost(ip)
    # Python takes the old site-local addresses (fec0::/10) for public ones.
    site_local = isinstance(ip, ipaddress.IPv6Address) and ip.is_site_local
    return ip.is_global and not site_local and not any(ip in network for network in _SPECIAL)


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
