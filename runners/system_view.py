"""What of the system every job sees, read-only, and what of /proc and /sys it does not."""

from pathlib import Path

from runners.run import Bind

__all__ = ["FOLDERS_MASKED", "PROC_MASKED", "system_folders"]

_TOP_FOLDERS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/libx32", "/lib64")
# Only what programs need to find their libraries, fonts and public certificates. Never /etc/ssl as a whole:
# /etc/ssl/private would be readable for a job of a daemon that runs as root. Nothing that tells which machine this is
# or where: no /etc/localtime (jobs live in UTC), hostname, machine-id, passwd.
_ETC = (
    "/etc/ld.so.cache",
    "/etc/alternatives",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/fonts",
    "/etc/nsswitch.conf",
    "/etc/mime.types",
    "/etc/OpenCL",
    "/etc/vulkan",
)
# What /proc tells of the machine, not of processes: a job of a daemon that runs as root owns these files. And what
# tells this machine from others: its kernel's command line (disks' ids), the id of its boot.
PROC_MASKED = (
    "/proc/bootconfig",
    "/proc/cmdline",
    "/proc/interrupts",
    "/proc/iomem",
    "/proc/ioports",
    "/proc/kallsyms",
    "/proc/kcore",
    "/proc/key-users",
    "/proc/keys",
    "/proc/kmsg",
    "/proc/kpagecgroup",
    "/proc/kpagecount",
    "/proc/kpageflags",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/slabinfo",
    "/proc/sys/kernel/random/boot_id",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/vmallocinfo",
)
# Hardware, in folders. Those of /sys for jobs on cards that need it: cgroups name other jobs, DMI the machine's serial.
FOLDERS_MASKED = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/scsi",
    "/sys/devices/virtual/dmi",
    "/sys/devices/virtual/net",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs",
    "/sys/kernel",
)


def system_folders(root: Path = Path("/")) -> tuple[tuple[Bind, ...], tuple[tuple[str, str], ...]]:
    """Return what of the system is shown to every job: read-only binds, and links (merged /usr)."""
    binds: list[Bind] = []
    links: list[tuple[str, str]] = []
    for name in _TOP_FOLDERS:
        path = root / name[1:]
        if path.is_symlink():
            links.append((str(path.readlink()), name))
        elif path.is_dir():
            binds.append(Bind(path, name))
    binds.extend(Bind(root / name[1:], name) for name in _ETC if (root / name[1:]).exists())
    return tuple(binds), tuple(links)
