"""The filter on system calls: its numbers against the kernel's headers, its answers by running it."""

import errno
import os
import re
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runners.seccomp import machine_known, seccomp_filter
from runners.seccomp_calls import NEWEST_KNOWN, REFUSED, SOCKET_FAMILIES

ALLOW, KILL, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
MACHINES = list(AUDIT)
HEADERS = {
    "x86_64": [Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"), Path("/usr/include/asm/unistd_64.h")],
    "aarch64": [Path("/usr/include/asm-generic/unistd.h")],
}
ANSWERS = (
    *(errno.EPERM, errno.ENOSYS, errno.EINVAL, errno.ENOMEM, errno.EOPNOTSUPP),
    *(errno.EAFNOSUPPORT, errno.ESOCKTNOSUPPORT, errno.EPROTONOSUPPORT, errno.ENOPROTOOPT),
)
CALLS = {name: numbers for calls in REFUSED.values() for name, numbers in calls.items()}


def answer(machine, number, args=(), arch=None, **kind):
    """Run the machine's filter as the kernel does (bpf(4), the few instructions it uses)."""
    program = list(struct.iter_unpack("=HBBI", seccomp_filter(machine, **kind)))
    args = [*args, *[0] * (6 - len(args))]
    data = struct.pack("=IIQ6Q", number, AUDIT[machine] if arch is None else arch, 0, *args)
    position, accumulator = 0, 0
    while True:
        code, jump_true, jump_false, value = program[position]
        position += 1
        match code:
            case 0x20:
                (accumulator,) = struct.unpack_from("=I", data, value)
            case 0x15:
                position += jump_true if accumulator == value else jump_false
            case 0x25:
                position += jump_true if accumulator > value else jump_false
            case 0x54:
                accumulator &= value
            case 0x45:
                position += jump_true if accumulator & value else jump_false
            case 0x06:
                return value
            case _:
                raise AssertionError(f"instruction {code:#x}")


def number_of(machine, name):
    return CALLS[name][MACHINES.index(machine)]


@pytest.mark.parametrize("machine", MACHINES)
def test_every_refused_call_is_refused_with_eperm(machine):
    for name in CALLS:
        number = number_of(machine, name)
        if number is not None:
            assert answer(machine, number) == ERRNO | errno.EPERM, name


@pytest.mark.parametrize("machine", MACHINES)
def test_the_numbers_are_those_of_the_headers(machine):
    header = next((path for path in HEADERS[machine] if path.exists()), None)
    if header is None:
        assert os.environ.get("CI") != "true", "linux-libc-dev is missing"
        pytest.skip("linux-libc-dev is not installed")
    found = {
        name: int(number)
        for name, number in re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", header.read_text())
    }
    assert len(found) > 200
    known = {name: number_of(machine, name) for name in CALLS if name in found}
    assert known == {name: found[name] for name in known}
    # What the table knows and this header does not is newer than it, or not of this architecture.
    newest = max(found.values())
    for name in CALLS.keys() - found.keys():
        number = number_of(machine, name)
        assert number is None or number > newest or name == "create_module", name
    everything = [0xFFFF_FFFE] * 4  # as flags, commands, families: none that is allowed
    for name in ("semget", "msgget"):
        assert answer(machine, found[name], counted=False) & 0xFFFF0000 == ERRNO, name
    assert answer(machine, found["close_range"], everything) & 0xFFFF0000 == ERRNO
    for name in ("clone", "socket", "personality", "fcntl", "mmap", "memfd_create", "shmget", "memfd_secret"):
        assert answer(machine, found[name], everything) & 0xFFFF0000 == ERRNO, name
    assert answer(machine, found["fallocate"]) & 0xFFFF0000 == ERRNO
    assert answer(machine, found["ioctl"], [0, 0x5412]) & 0xFFFF0000 == ERRNO
    assert answer(machine, found["setsockopt"], [0, 1, 13]) & 0xFFFF0000 == ERRNO
    assert answer(machine, found["ioprio_set"]) & 0xFFFF0000 == ERRNO


@pytest.mark.parametrize("machine", MACHINES)
def test_newer_calls_are_answered_as_by_an_older_kernel(machine):
    for number in (NEWEST_KNOWN + 1, 511, 0x4000_0000 + 41, 0xFFFF_FFFF):
        assert answer(machine, number) == ERRNO | errno.ENOSYS
    assert answer(machine, 435) == ERRNO | errno.ENOSYS  # clone3


@pytest.mark.parametrize("machine", MACHINES)
def test_another_architecture_is_killed(machine):
    assert answer(machine, 0, arch=0x40000003) == KILL  # i386


@pytest.mark.parametrize(("machine", "clone"), [("x86_64", 56), ("aarch64", 220)])
def test_clone_makes_threads_and_processes_but_no_namespaces(machine, clone):
    thread, fork, vfork = 0x3D0F00, 0x1200011, 0x4111
    for flags in (thread, fork, vfork, 17):
        assert answer(machine, clone, [flags]) == ALLOW
    assert answer(machine, clone, [thread & ~0x400]) == ERRNO | errno.EPERM  # with descriptors of its own
    assert answer(machine, clone, [(fork | 0x400) & ~0x400]) == ALLOW
    for bit in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
        assert answer(machine, clone, [bit | 17]) == ERRNO | errno.EPERM


@pytest.mark.parametrize(("machine", "socket"), [("x86_64", 41), ("aarch64", 198)])
@given(family=st.integers(0, 2**32 - 1))
def test_only_listed_families_of_sockets(machine, socket, family):
    allowed = family in SOCKET_FAMILIES
    assert answer(machine, socket, [family, 1]) == (ALLOW if allowed else ERRNO | errno.EAFNOSUPPORT)
    # The kernel looks at the lower half only, and so does the filter.
    assert answer(machine, socket, [family | 1 << 40, 1]) == answer(machine, socket, [family, 1])


@pytest.mark.parametrize(("machine", "socket"), [("x86_64", 41), ("aarch64", 198)])
@given(
    family=st.sampled_from([2, 10]),
    kind=st.one_of(st.integers(0, 15), st.integers(0, 2**32 - 1)),
    protocol=st.one_of(st.sampled_from([0, 1, 6, 17, 33, 58, 132, 136, 256, 262]), st.integers(0, 2**32 - 1)),
)
def test_of_ip_what_every_kernel_has_without_a_module(machine, socket, family, kind, protocol):
    found = answer(machine, socket, [family, kind, protocol])
    match kind & 0xF:  # beside it: SOCK_NONBLOCK, SOCK_CLOEXEC
        case 1:
            expected = ALLOW if protocol in (0, 6) else ERRNO | errno.EPROTONOSUPPORT
        case 2:
            icmp = {2: 1, 10: 58}[family]
            expected = ALLOW if protocol in (0, 17, icmp) else ERRNO | errno.EPROTONOSUPPORT
        case 3:
            expected = ERRNO | errno.EPERM
        case _:
            expected = ERRNO | errno.ESOCKTNOSUPPORT
    assert found == expected


@pytest.mark.parametrize(("machine", "socket"), [("x86_64", 41), ("aarch64", 198)])
def test_a_family_that_the_kernel_lacks_is_not_asked_for(machine, socket):
    """IPv6, turned off: each try would have it look for the module."""
    for family, given_ in ((10, ERRNO | errno.EAFNOSUPPORT), (2, ALLOW), (16, ALLOW), (1, ALLOW)):
        assert answer(machine, socket, [family, 2, 0], families=(1, 2, 16)) == given_


@pytest.mark.parametrize(("machine", "socket"), [("x86_64", 41), ("aarch64", 198)])
@given(protocol=st.one_of(st.integers(0, 40), st.integers(0, 2**32 - 1)))
def test_of_netlink_addresses_and_devices_only(machine, socket, protocol):
    expected = ALLOW if protocol in (0, 15) else ERRNO | errno.EPROTONOSUPPORT
    assert answer(machine, socket, [16, 0x80003, protocol]) == expected
    assert answer(machine, socket, [1, 1, protocol]) == ALLOW


@pytest.mark.parametrize(("machine", "fcntl"), [("x86_64", 72), ("aarch64", 25)])
def test_files_are_locked_and_copied_but_not_leased(machine, fcntl):
    dupfd, setfl, setlkw, ofd_setlk, getlease, dupfd_cloexec, add_seals, set_hint = (
        *(0, 4, 7, 37),
        *(1025, 1030, 1033, 1038),
    )
    for command in (dupfd, setfl, setlkw, ofd_setlk, getlease, dupfd_cloexec, add_seals, set_hint):
        assert answer(machine, fcntl, [3, command]) == ALLOW
    setlease, notify, setdeleg = 1024, 1026, 1040
    for command in (setlease, notify, setdeleg, setlease | 1 << 32, 2**32 - 1):
        assert answer(machine, fcntl, [3, command, 1]) == ERRNO | errno.EINVAL


@pytest.mark.parametrize(("machine", "fallocate"), [("x86_64", 285), ("aarch64", 47)])
def test_room_on_the_disk_is_taken_by_writing_and_given_back(machine, fallocate):
    for mode in (0, 1, 0x10, 0x41):
        assert answer(machine, fallocate, [3, mode, 0, 1 << 30]) == ERRNO | errno.EOPNOTSUPP
    assert answer(machine, fallocate, [3, 3, 0, 1 << 30]) == ALLOW  # a hole


@pytest.mark.parametrize(
    ("machine", "mmap", "memfd", "shmget"), [("x86_64", 9, 319, 29), ("aarch64", 222, 279, 194)]
)
def test_huge_pages_are_somebody_elses(machine, mmap, memfd, shmget):
    none = ERRNO | errno.ENOMEM
    assert answer(machine, mmap, [0, 4096, 3, 0x22]) == ALLOW
    assert answer(machine, mmap, [0, 4096, 3, 0x40022]) == none
    assert answer(machine, memfd, [0x7FFF_0000, 0xB]) == ALLOW
    assert answer(machine, memfd, [0x7FFF_0000, 0x4]) == none
    assert answer(machine, shmget, [0, 4096, 0o1600]) == ALLOW
    assert answer(machine, shmget, [0, 4096, 0o5600]) == none


@pytest.mark.parametrize(("machine", "socketpair"), [("x86_64", 53), ("aarch64", 199)])
def test_only_pairs_of_unix_sockets(machine, socketpair):
    assert answer(machine, socketpair, [1]) == ALLOW
    for family in (2, 30, 38, 40, 43):
        assert answer(machine, socketpair, [family]) == ERRNO | errno.EAFNOSUPPORT


@pytest.mark.parametrize(("machine", "personality"), [("x86_64", 135), ("aarch64", 92)])
def test_a_program_may_be_an_older_kernels_but_no_easier_prey(machine, personality):
    plain, uname26, asking = 0, 0x2_0000, 0xFFFF_FFFF
    for persona in (plain, 8, uname26, uname26 | 8, asking):
        assert answer(machine, personality, [persona]) == ALLOW
    no_randomising, read_implies_exec, page_zero = 0x4_0000, 0x40_0000, 0x10_0000
    for persona in (no_randomising, read_implies_exec, page_zero, uname26 | no_randomising):
        assert answer(machine, personality, [persona]) == ERRNO | errno.EPERM


@pytest.mark.parametrize("machine", MACHINES)
def test_no_thread_gets_a_table_of_descriptors_for_itself(machine):
    assert answer(machine, 436, [3, 2**32 - 1, 0]) == ALLOW
    assert answer(machine, 436, [3, 2**32 - 1, 4]) == ALLOW
    assert answer(machine, 436, [3, 2**32 - 1, 2]) == ERRNO | errno.EINVAL


@pytest.mark.parametrize(("machine", "system_v"), [("x86_64", (29, 64, 68)), ("aarch64", (194, 190, 186))])
def test_memory_that_nobody_counts_is_not_to_be_had(machine, system_v):
    for number in system_v:
        assert answer(machine, number) == ALLOW
        assert answer(machine, number, counted=False) == ERRNO | errno.ENOSYS
    assert answer(machine, 447) == ERRNO | errno.ENOSYS  # memfd_secret


@pytest.mark.parametrize(("machine", "ioctl"), [("x86_64", 16), ("aarch64", 29)])
def test_nobody_types_into_a_terminal(machine, ioctl):
    assert answer(machine, ioctl, [0, 0x5412]) == ERRNO | errno.EPERM
    assert answer(machine, ioctl, [0, 0x541C]) == ERRNO | errno.EPERM
    assert answer(machine, ioctl, [0, 0x5423]) == ERRNO | errno.EPERM
    assert answer(machine, ioctl, [0, 0x5401]) == ALLOW


@pytest.mark.parametrize(("machine", "ioctl"), [("x86_64", 16), ("aarch64", 29)])
def test_no_bridge_and_no_vlan_is_asked_for(machine, ioctl):
    for request in (0x8940, 0x8941, *range(0x8980, 0x8984), *range(0x89A0, 0x89A4)):
        assert answer(machine, ioctl, [3, request]) == ERRNO | errno.EPERM
    for request in (0x8912, 0x8927, 0x541B, 0xC020462A):  # addresses, FIONREAD, a card's driver
        assert answer(machine, ioctl, [3, request]) == ALLOW


@pytest.mark.parametrize(("machine", "setrlimit", "prlimit"), [("x86_64", 160, 302), ("aarch64", 164, 261)])
def test_the_limit_on_cores_stays_and_may_be_asked_for(machine, setrlimit, prlimit):
    core, files = 4, 7
    assert answer(machine, setrlimit, [core, 0x7FFF_0000]) == ERRNO | 0
    assert answer(machine, setrlimit, [files, 0x7FFF_0000]) == ALLOW
    for new in (0x7FFF_0000, 1 << 32, 1):
        assert answer(machine, prlimit, [0, core, new]) == ERRNO | 0
        assert answer(machine, prlimit, [0, files, new]) == ALLOW
    assert answer(machine, prlimit, [0, core, 0, 0x7FFF_0000]) == ALLOW


@pytest.mark.parametrize(("machine", "ioprio_set", "ioprio_get"), [("x86_64", 251, 252), ("aarch64", 30, 31)])
def test_its_priority_for_the_disk_stays_and_may_be_asked_for(machine, ioprio_set, ioprio_get):
    assert answer(machine, ioprio_set, [1, 0, 2 << 13]) == ERRNO | 0
    assert answer(machine, ioprio_get, [1, 0]) == ALLOW


@pytest.mark.parametrize(("machine", "setsockopt"), [("x86_64", 54), ("aarch64", 208)])
def test_no_socket_lingers_and_other_options_are_set(machine, setsockopt):
    fd, value, high = 3, 0x7FFF_0000, 1 << 32
    for level, option in ((1, 13), (1 | high, 13), (1, 13 | high)):
        assert answer(machine, setsockopt, [fd, level, option, value, 8]) == ERRNO | 0
    for option in (14, 32, 38):  # signatures: hashes that are modules
        assert answer(machine, setsockopt, [fd, 6, option, value, 8]) == ERRNO | errno.ENOPROTOOPT
        assert answer(machine, setsockopt, [fd, 17, option, value, 8]) == ALLOW
    for level, option in ((1, 2), (1, 9), (6, 13), (0, 13), (6, 1)):
        assert answer(machine, setsockopt, [fd, level, option, value, 8]) == ALLOW


@pytest.mark.parametrize("machine", MACHINES)
@given(number=st.integers(0, NEWEST_KNOWN), args=st.lists(st.integers(0, 2**64 - 1), max_size=6))
def test_everything_has_an_answer_and_most_is_allowed(machine, number, args):
    found = answer(machine, number, args)
    assert found in {
        ALLOW,
        ERRNO,
        *(ERRNO | code for code in ANSWERS),
    }


@pytest.mark.parametrize("machine", MACHINES)
def test_what_programs_live_on_is_allowed(machine):
    # read, write, mmap, futex, execve, openat, exit_group
    ordinary = {"x86_64": (0, 1, 9, 202, 59, 257, 231), "aarch64": (63, 64, 222, 98, 221, 56, 94)}
    for number in ordinary[machine]:
        assert answer(machine, number) == ALLOW


def test_the_kernel_takes_at_most_4096_instructions_and_a_pipe_a_page():
    for machine in MACHINES:
        assert len(seccomp_filter(machine)) <= 4096


def test_other_machines_are_known_not_to_have_one():
    assert not machine_known("riscv64")
    with pytest.raises(KeyError):
        seccomp_filter("riscv64")
