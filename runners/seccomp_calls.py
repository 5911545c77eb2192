"""Which calls of the kernel a job is refused, by class and name, with their numbers; see runners.seccomp.

The numbers are those of the kernel's headers (asm/unistd_64.h, asm-generic/unistd.h).
"""

from types import MappingProxyType

__all__ = [
    "FILE_COMMANDS",
    "IP_PROTOCOLS",
    "IP_RAW",
    "NETLINK_PROTOCOLS",
    "NEWEST_KNOWN",
    "REFUSED",
    "REFUSED_IOCTLS",
    "SOCKET_FAMILIES",
    "TCP_SIGNING",
]

# (x86-64, 64-bit ARM); None where an architecture has no such call.
_Numbers = tuple[int | None, int | None]

REFUSED: MappingProxyType[str, MappingProxyType[str, _Numbers]] = MappingProxyType(
    {
        "keys of the kernel, which know no namespace": MappingProxyType(
            {"add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219)}
        ),
        "looking into other processes": MappingProxyType(
            {
                "ptrace": (101, 117),
                "process_vm_readv": (310, 270),
                "process_vm_writev": (311, 271),
                "process_madvise": (440, 440),
                "kcmp": (312, 272),
                "pidfd_getfd": (438, 438),
                "perf_event_open": (298, 241),
            }
        ),
        "code in the kernel": MappingProxyType(
            {
                "bpf": (321, 280),
                "create_module": (174, None),
                "init_module": (175, 105),
                "finit_module": (313, 273),
                "delete_module": (176, 106),
                "get_kernel_syms": (177, None),
                "query_module": (178, None),
                "kexec_load": (246, 104),
                "kexec_file_load": (320, 294),
            }
        ),
        "namespaces and mounts": MappingProxyType(
            {
                "mount": (165, 40),
                "umount2": (166, 39),
                "pivot_root": (155, 41),
                "chroot": (161, 51),
                "open_tree": (428, 428),
                "move_mount": (429, 429),
                "fsopen": (430, 430),
                "fsconfig": (431, 431),
                "fsmount": (432, 432),
                "fspick": (433, 433),
                "mount_setattr": (442, 442),
                "statmount": (457, 457),
                "listmount": (458, 458),
                "open_tree_attr": (467, 467),
                "unshare": (272, 97),
                "setns": (308, 268),
            }
        ),
        "the machine as a whole": MappingProxyType(
            {
                "reboot": (169, 142),
                "syslog": (103, 116),
                "acct": (163, 89),
                "swapon": (167, 224),
                "swapoff": (168, 225),
                "quotactl": (179, 60),
                "quotactl_fd": (443, 443),
                "settimeofday": (164, 170),
                "clock_settime": (227, 112),
                "sethostname": (170, 161),
                "setdomainname": (171, 162),
                "vhangup": (153, 58),
                "iopl": (172, None),
                "ioperm": (173, None),
                "lsm_get_self_attr": (459, 459),
                "lsm_set_self_attr": (460, 460),
                "lsm_list_modules": (461, 461),
            }
        ),
        "files past their paths": MappingProxyType(
            {
                "name_to_handle_at": (303, 264),
                "open_by_handle_at": (304, 265),
                "fanotify_init": (300, 262),
                "fanotify_mark": (301, 263),
            }
        ),
        "memory of the machine's nodes": MappingProxyType(
            {
                "get_mempolicy": (239, 236),
                "set_mempolicy": (238, 237),
                "mbind": (237, 235),
                "migrate_pages": (256, 238),
                "move_pages": (279, 239),
                "set_mempolicy_home_node": (450, 450),
            }
        ),
        "what the machine has only so many of, for all users together": MappingProxyType(
            {"io_setup": (206, 0)}  # fs.aio-max-nr
        ),
        "a long record of defects": MappingProxyType(
            {
                "io_uring_setup": (425, 425),
                "io_uring_enter": (426, 426),
                "io_uring_register": (427, 427),
                "userfaultfd": (323, 282),
                "modify_ldt": (154, None),
                "uselib": (134, None),
                "sysfs": (139, None),
                "_sysctl": (156, None),
                "ustat": (136, None),
                "lookup_dcookie": (212, 18),
                "nfsservctl": (180, 42),
            }
        ),
    }
)
"""By class and name: answered with EPERM."""

NEWEST_KNOWN = 467
"""The highest number that was judged here (Linux 6.15); what is above is ENOSYS."""

# AF_UNIX, AF_INET, AF_INET6, AF_NETLINK: all within the job's own network, which has nothing but a loopback.
SOCKET_FAMILIES = (1, 2, 10, 16)
# What follows is in every kernel. For anything else the kernel has modprobe look for a module, as root, whoever asks.
_STREAM, _DATAGRAM, IP_RAW = 1, 2, 3
_DEFAULT, _ICMP, _TCP, _UDP, _ICMPV6 = 0, 1, 6, 17, 58
IP_PROTOCOLS: MappingProxyType[int, MappingProxyType[int, tuple[int, ...]]] = MappingProxyType(
    {
        2: MappingProxyType({_STREAM: (_DEFAULT, _TCP), _DATAGRAM: (_DEFAULT, _UDP, _ICMP)}),
        10: MappingProxyType({_STREAM: (_DEFAULT, _TCP), _DATAGRAM: (_DEFAULT, _UDP, _ICMPV6)}),
    }
)
"""By family and type of socket."""

NETLINK_PROTOCOLS = (0, 15)
"""NETLINK_ROUTE, which C libraries ask for addresses, and NETLINK_KOBJECT_UEVENT, on which libudev listens."""

TCP_SIGNING = (14, 32, 38)
"""TCP_MD5SIG, TCP_MD5SIG_EXT, TCP_AO_ADD_KEY."""

REFUSED_IOCTLS = (
    # TIOCSTI, TIOCLINUX: typing into somebody's terminal
    0x5412,
    0x541C,
    # Modules that asking would load: TIOCSETD (line disciplines); SIOCGIFBR, SIOCSIFBR, SIOCBRADDBR to SIOCBRDELIF
    # (bridges); SIOCGIFVLAN, SIOCSIFVLAN; SIOCADDDLCI, SIOCDELDLCI (frame relay)
    0x5423,
    0x8940,
    0x8941,
    0x89A0,
    0x89A1,
    0x89A2,
    0x89A3,
    0x8982,
    0x8983,
    0x8980,
    0x8981,
)

# F_DUPFD to F_GETOWN_EX, F_OFD_GETLK to F_OFD_SETLKW, F_GETLEASE, F_DUPFD_QUERY, F_CREATED_QUERY, F_DUPFD_CLOEXEC to
# F_SET_FILE_RW_HINT. Not: F_SETLEASE and F_SETDELEG, which have everybody wait who opens or executes the file, at
# root's jobs each of the system's programs; F_NOTIFY; what a newer kernel brings.
FILE_COMMANDS = (*range(17), 36, 37, 38, 1025, 1027, 1028, *range(1030, 1039))
"""What fcntl(2) does for a job."""
