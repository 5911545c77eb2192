"""The filter on a job's system calls: which the kernel refuses, as a program for `bwrap --seccomp` (seccomp(2), BPF).

What an ordinary program computes with is allowed. Refused are the classes that Docker's default profile refuses:
the calls that act on the machine instead of on the process, and those with the longest record of kernel defects.
A call that is newer than this table is answered as on an older kernel (ENOSYS), so that nothing becomes allowed by
an upgrade of the kernel. Programs of another architecture (32-bit, x32) are not run: their numbers mean other calls.

Pure: bytes from tables.
"""

import errno
import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from runners.seccomp_calls import (
    FILE_COMMANDS,
    IP_PROTOCOLS,
    IP_RAW,
    NETLINK_PROTOCOLS,
    NEWEST_KNOWN,
    REFUSED,
    REFUSED_IOCTLS,
    SOCKET_FAMILIES,
    TCP_SIGNING,
)

__all__ = ["machine_known", "seccomp_filter"]

_CLONE_NEW = 0x7E02_0080  # user, pid, net, ipc, uts, cgroup, mount and time namespaces
_CLONE_THREAD, _CLONE_FILES, _CLOSE_RANGE_UNSHARE = 0x1_0000, 0x400, 0x2
_PERSONALITIES = (0x0, 0x8, 0x2_0000, 0x2_0008, 0xFFFF_FFFF)  # plain, and asking which
_UNIX, _NETLINK = 1, 16
_RLIMIT_CORE = 4
_SOL_SOCKET, _SO_LINGER, _SOL_TCP = 1, 13, 6
_SOCKET_TYPE = 0xF  # beside flags
_PUNCH_HOLE = 0x2
_MAP_HUGETLB, _MFD_HUGETLB, _SHM_HUGETLB = 0x4_0000, 0x4, 0o4000


@dataclass(frozen=True, slots=True)
class _Machine:
    audit_arch: int
    column: int
    clone: int
    clone3: int
    socket: int
    socketpair: int
    personality: int
    ioctl: int
    setrlimit: int
    prlimit64: int
    shmget: int
    semget: int
    msgget: int
    close_range: int
    setsockopt: int
    ioprio_set: int
    fcntl: int
    fallocate: int
    mmap: int
    memfd_create: int
    memfd_secret: int


_MACHINES = {
    "x86_64": _Machine(
        0xC000_003E,
        0,
        clone=56,
        clone3=435,
        socket=41,
        socketpair=53,
        personality=135,
        ioctl=16,
        setrlimit=160,
        prlimit64=302,
        shmget=29,
        semget=64,
        msgget=68,
        close_range=436,
        setsockopt=54,
        ioprio_set=251,
        fcntl=72,
        fallocate=285,
        mmap=9,
        memfd_create=319,
        memfd_secret=447,
    ),
    "aarch64": _Machine(
        0xC000_00B7,
        1,
        clone=220,
        clone3=435,
        socket=198,
        socketpair=199,
        personality=92,
        ioctl=29,
        setrlimit=164,
        prlimit64=261,
        shmget=194,
        semget=190,
        msgget=186,
        close_range=436,
        setsockopt=208,
        ioprio_set=30,
        fcntl=25,
        fallocate=47,
        mmap=222,
        memfd_create=279,
        memfd_secret=447,
    ),
}

# linux/bpf_common.h, linux/seccomp.h, struct seccomp_data
_LOAD, _AND, _JEQ, _JGT, _JSET, _RETURN = 0x20, 0x54, 0x15, 0x25, 0x45, 0x06
_NUMBER_AT, _ARCH_AT, _ARG_AT = 0, 4, 16
_ALLOW, _KILL, _ERRNO = 0x7FFF_0000, 0x8000_0000, 0x0005_0000
_DONE = _ERRNO  # answered with 0, as if it had been done

_Instruction = tuple[int, int, int, int]


def machine_known(machine: str) -> bool:
    """Whether there is a filter for `machine` (`os.uname().machine`)."""
    return machine in _MACHINES


def seccomp_filter(
    machine: str, *, counted: bool = True, families: Collection[int] = SOCKET_FAMILIES
) -> bytes:
    """Return the filter for `machine` as an array of `struct sock_filter`.

    `families` are those of SOCKET_FAMILIES that the kernel has: for one that it lacks it would look for a module.

    `counted`: a cgroup counts the run's memory. Where none does, what System V has (shared memory, semaphores, queues),
    which is in no process when it likes and in no folder, is not there, as on a kernel without it (ENOSYS).

    Raises:
        KeyError: there is none for this machine; see `machine_known`.

    """
    known = _MACHINES[machine]
    program = [
        (_LOAD, 0, 0, _ARCH_AT),
        *_unless(_JEQ, known.audit_arch, _KILL),
        (_LOAD, 0, 0, _NUMBER_AT),
        # x32 calls are those of x86-64 with a bit set, so this refuses them too.
        *_if(_JGT, NEWEST_KNOWN, _ERRNO | errno.ENOSYS),
        # Its flags are in memory, out of a filter's sight: the C library falls back on clone.
        *_if(_JEQ, known.clone3, _ERRNO | errno.ENOSYS),
        # Memory in no process and no folder, never swapped.
        *_if(_JEQ, known.memfd_secret, _ERRNO | errno.ENOSYS),
    ]
    if not counted:
        for number in (known.shmget, known.semget, known.msgget):
            program += _if(_JEQ, number, _ERRNO | errno.ENOSYS)
    for number in _refused(known):
        program += _if(_JEQ, number, _ERRNO | errno.EPERM)
    # Anybody may raise what ionice lowered, as far as the class best-effort goes; a job stays where it was put.
    program += _if(_JEQ, known.ioprio_set, _DONE)
    program += _argument(known.clone, 0, [*_if(_JSET, _CLONE_NEW, _ERRNO | errno.EPERM), *_one_table()])
    program += _argument(known.close_range, 2, _if(_JSET, _CLOSE_RANGE_UNSHARE, _ERRNO | errno.EINVAL))
    program += _sockets(known, families)
    program += _argument(known.socketpair, 0, _only((_UNIX,), _ERRNO | errno.EAFNOSUPPORT))
    program += _argument(known.personality, 0, _only(_PERSONALITIES, _ERRNO | errno.EPERM))
    program += _argument(
        known.ioctl,
        1,
        [one for request in REFUSED_IOCTLS for one in _if(_JEQ, request, _ERRNO | errno.EPERM)],
    )
    program += _argument(known.fcntl, 1, _only(FILE_COMMANDS, _ERRNO | errno.EINVAL))
    # A disk may be full of it at once, without a byte written; the C library then writes. Giving back is allowed.
    program += _argument(known.fallocate, 1, _unless(_JSET, _PUNCH_HOLE, _ERRNO | errno.EOPNOTSUPP))
    program += _no_huge_pages(known)
    program += _cores_stay(known)
    program += _argument(known.setsockopt, 1, [*_no_signing(), *_no_lingering()])
    program.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


def _one_table() -> list[_Instruction]:
    """Refuse threads with a table of descriptors of their own: who looks at a process sees its first thread's."""
    return [
        (_JSET, 0, 2, _CLONE_THREAD),
        (_JSET, 1, 0, _CLONE_FILES),
        (_RETURN, 0, 0, _ERRNO | errno.EPERM),
    ]


def _cores_stay(known: _Machine) -> list[_Instruction]:
    """Have RLIMIT_CORE stay as it is: with 1 no core is dumped, with 0 the machine's handler gets it (core(5)).

    A program that sets it, to protect its secrets, is told that it did: it has what it wanted. Asking is allowed.
    """
    where = _ARG_AT + 8 * 2  # prlimit's new limit: no pointer means asking
    return [
        *_argument(known.setrlimit, 0, _if(_JEQ, _RLIMIT_CORE, _DONE)),
        *_argument(
            known.prlimit64,
            1,
            [
                (_JEQ, 0, 5, _RLIMIT_CORE),
                (_LOAD, 0, 0, where),
                (_JEQ, 0, 2, 0),
                (_LOAD, 0, 0, where + 4),
                (_JEQ, 1, 0, 0),
                (_RETURN, 0, 0, _DONE),
            ],
        ),
    ]


def _no_signing() -> list[_Instruction]:
    """Have no TCP connection signed: the kernel would look for the hash as a module; for after the level was loaded."""
    options = [one for option in TCP_SIGNING for one in _if(_JEQ, option, _ERRNO | errno.ENOPROTOOPT)]
    return _then(_SOL_TCP, [_argument_of(2), *options])


def _no_lingering() -> list[_Instruction]:
    """Have no socket linger, and say that it does; for after the option's level was loaded.

    Who closes the last descriptor of such a socket waits, for as long as it says. That may be the daemon, which takes
    copies of descriptors to see how much a job has written (runners.descriptors).
    """
    return [
        (_JEQ, 0, 3, _SOL_SOCKET),
        _argument_of(2),
        *_if(_JEQ, _SO_LINGER, _DONE),
    ]


def _no_huge_pages(known: _Machine) -> list[_Instruction]:
    """Say that there are none: those that the machine has were set aside for somebody, and nothing counts them."""
    return [
        *_argument(known.mmap, 3, _if(_JSET, _MAP_HUGETLB, _ERRNO | errno.ENOMEM)),
        *_argument(known.memfd_create, 1, _if(_JSET, _MFD_HUGETLB, _ERRNO | errno.ENOMEM)),
        *_argument(known.shmget, 2, _if(_JSET, _SHM_HUGETLB, _ERRNO | errno.ENOMEM)),
    ]


def _sockets(known: _Machine, families: Collection[int]) -> list[_Instruction]:
    """Refuse what the kernel does not have without loading a module for it: families, types, protocols."""
    unsupported = _ERRNO | errno.EPROTONOSUPPORT
    had = tuple(family for family in SOCKET_FAMILIES if family in families)
    program = [*_only(had, _ERRNO | errno.EAFNOSUPPORT), *_if(_JEQ, _UNIX, _ALLOW)]
    program += _then(_NETLINK, [_argument_of(2), *_only(NETLINK_PROTOCOLS, unsupported)])
    for family, types in IP_PROTOCOLS.items():
        of_type: list[_Instruction] = [_argument_of(1), (_AND, 0, 0, _SOCKET_TYPE)]
        of_type += _if(_JEQ, IP_RAW, _ERRNO | errno.EPERM)  # it needs a capability, which no job has
        for kind, protocols in types.items():
            of_type += _then(kind, [_argument_of(2), *_only(protocols, unsupported)])
        program += _then(family, [*of_type, (_RETURN, 0, 0, _ERRNO | errno.ESOCKTNOSUPPORT)])
    return _argument(known.socket, 0, program)


def _refused(known: _Machine) -> Iterator[int]:
    for calls in REFUSED.values():
        for numbers in calls.values():
            number = numbers[known.column]
            if number is not None:
                yield number


def _if(test: int, value: int, action: int) -> list[_Instruction]:
    return [(test, 0, 1, value), (_RETURN, 0, 0, action)]


def _unless(test: int, value: int, action: int) -> list[_Instruction]:
    return [(test, 1, 0, value), (_RETURN, 0, 0, action)]


def _only(values: tuple[int, ...], action: int) -> list[_Instruction]:
    """Refuse what is none of `values`."""
    tests = [(_JEQ, len(values) - position, 0, value) for position, value in enumerate(values)]
    return [*tests, (_RETURN, 0, 0, action)]


def _argument_of(index: int) -> _Instruction:
    """Load the lower half of an argument; the kernel takes these as 32-bit numbers (little endian)."""
    return (_LOAD, 0, 0, _ARG_AT + 8 * index)


def _argument(number: int, index: int, then: list[_Instruction]) -> list[_Instruction]:
    """For the call `number`, judge its argument `index`; whoever passes `then` is allowed."""
    return _then(number, [_argument_of(index), *then])


def _then(value: int, then: list[_Instruction]) -> list[_Instruction]:
    """If what was loaded is `value`, judge by `then`; whoever passes is allowed."""
    body = [*then, (_RETURN, 0, 0, _ALLOW)]
    return [(_JEQ, 0, len(body), value), *body]
