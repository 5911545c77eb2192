"""A program of its own: makes a listening socket inside another network namespace, and hands it out (setns(2)).

    egress_listener.py NAMESPACE SOCKET PORT

NAMESPACE is a descriptor of the network namespace, SOCKET one of a Unix socket that takes the result. It needs to be
a program because a process with threads can't enter a user namespace, and only in the one that owns the network
namespace does the daemon's user have the right to enter the latter. It is gone before the job's command starts, is in
no process namespace of the job's, and runs nothing of the job's.
"""

import ctypes
import fcntl
import os
import resource
import socket
import sys

_CLONE_NEWUSER, _CLONE_NEWNET = 0x1000_0000, 0x4000_0000
_NS_GET_USERNS = 0xB701  # ioctl_ns(2)
_BACKLOG = 64


def _enter(libc: ctypes.CDLL, namespace: int, kind: int) -> None:
    if libc.setns(namespace, kind) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"setns: {os.strerror(number)}")


def main(namespace: int, answer: int, port: int) -> None:
    """Enter, listen on 127.0.0.1, and send the socket."""
    libc = ctypes.CDLL(None, use_errno=True)
    # Descriptors on their way through sockets are counted by user, and compared with the limit of who sends one more:
    # jobs of the same user may have as many on their way as their own limit says.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    _enter(libc, fcntl.ioctl(namespace, _NS_GET_USERNS), _CLONE_NEWUSER)
    _enter(libc, namespace, _CLONE_NEWNET)
    with socket.socket() as listener, socket.socket(fileno=answer) as out:
        # The connections of an earlier daemon may still be closing.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(_BACKLOG)
        socket.send_fds(out, [b"\n"], [listener.fileno()])


if __name__ == "__main__":
    try:
        main(*map(int, sys.argv[1:4]))
    except OSError as error:
        sys.exit(str(error))
