"""The network, by a job that was given none."""

from tests.hostile.attack import attack

__all__ = ["NETWORK"]

NETWORK = (
    attack(
        "raw sockets",
        "to sniff and to forge packets",
        "refused",
        "raw = socket.SOCK_RAW\nsay(attempt(socket.socket, 2, raw, 1), attempt(socket.socket, 17, raw, 3))",
        lines=("EPERM EAFNOSUPPORT",),
    ),
    attack(
        "abstract sockets",
        "a service of the host on an abstract Unix socket",
        "not there: abstract names belong to a network namespace",
        "s = socket.socket(socket.AF_UNIX)\nsay(attempt(s.connect, '\\0ABSTRACT_NAME'))",
        lines=("ECONNREFUSED",),
    ),
    attack(
        "services of the host",
        "the daemon's status page and the coordinator, on the host's loopback",
        "not there: its loopback is its own",
        "for port in PORTS:\n    s = socket.socket(); s.settimeout(2); say(attempt(s.connect, ('127.0.0.1', port)))",
        lines=("ECONNREFUSED", "ECONNREFUSED"),
    ),
    attack(
        "metadata of a cloud",
        "the credentials at 169.254.169.254",
        "no network",
        "s = socket.socket(); s.settimeout(2); say(attempt(s.connect, ('169.254.169.254', 80)))\n"
        "s = socket.socket(socket.AF_INET6); s.settimeout(2); say(attempt(s.connect, ('fd00:ec2::254', 80)))",
        lines=("ENETUNREACH", "ENETUNREACH"),
    ),
    attack(
        "DNS tunnel",
        "to carry data out in the names that it looks up",
        "no network",
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); say(attempt(s.sendto, b'x', ('192.0.2.53', 53)))\n"
        "try: socket.getaddrinfo('secret.example', 80); say('resolved')\n"
        "except socket.gaierror: say('not resolved')",
        lines=("ENETUNREACH", "not resolved"),
    ),
    attack(
        "a network of its own",
        "to bring an interface up",
        "refused",
        "import fcntl\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "say(attempt(fcntl.ioctl, s, 0x8914, struct.pack('16sH14s', b'lo', 1, b'')), len(socket.if_nameindex()))",
        lines=("EPERM 1",),
    ),
)
