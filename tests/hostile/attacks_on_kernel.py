"""The kernel, and the machine as a whole."""

from tests.hostile.attack import attack

__all__ = ["KERNEL"]

KERNEL = (
    attack(
        "kernel settings",
        "to set core_pattern, and to press SysRq",
        "read-only, even under a daemon of root",
        "for path in ('kernel/core_pattern', 'vm/drop_caches'): say(attempt(open, '/proc/sys/' + path, 'w'))\n"
        # Not every kernel has these.
        "for path in ('sys/kernel/sysrq', 'sysrq-trigger'): say(attempt(open, '/proc/' + path, 'w') != 'ok')",
        lines=("EROFS", "EROFS", "True", "True"),
    ),
    attack(
        "kernel memory",
        "/proc/kcore, /proc/kmsg, page counts, symbols, dmesg",
        "empty or refused",
        "def read(name):\n    try: return len(open('/proc/' + name, 'rb').read(4096))\n    except OSError: return 0\n"
        "say([read(name) for name in ('kcore', 'kmsg', 'kpagecount', 'kallsyms', 'iomem')], call(103, 3, 0, 0))",
        lines=("[0, 0, 0, 0, 0] EPERM",),
    ),
    attack(
        "/sys",
        "to look at and set the machine's devices",
        "there is none",
        "say(os.path.exists('/sys'))",
        lines=("False",),
    ),
    attack(
        "mounts",
        "to mount proc, and to make its view writable again",
        "refused",
        "say(call(165, 0, 0, 0, 0, 0), call(165, 0, 0, 0, 32 | 4096, 0), call(166, 0, 2), call(430, 0, 0), "
        "call(155, 0, 0))",
        lines=("EPERM EPERM EPERM EPERM EPERM",),
    ),
    attack(
        "nested namespaces",
        "a user namespace of its own, where it would be root",
        "refused, by unshare and by clone",
        "say(call(272, 0x10000000), call(272, 0x20000), call(56, 0x10000011, 0, 0, 0, 0), call(308, 0, 0))\n"
        "say(subprocess.run(['unshare', '--user', 'true'], stderr=subprocess.DEVNULL).returncode != 0)",
        lines=("EPERM EPERM EPERM EPERM", "True"),
    ),
    attack(
        "keyrings",
        "the kernel's keys, which know no namespace",
        "refused",
        "say(call(250, 0, -3, 1), call(248, 0, 0, 0, 0, 0), call(249, 0, 0, 0, 0))",
        lines=("EPERM EPERM EPERM",),
    ),
    attack(
        "bpf",
        "a program in the kernel",
        "refused",
        "say(call(321, 0, 0, 0))",
        lines=("EPERM",),
    ),
    attack(
        "perf", "the performance counters", "refused", "say(call(298, 0, 0, -1, -1, 0))", lines=("EPERM",)
    ),
    attack(
        "leases",
        "a lease on a program of the system, so that whoever starts it waits",
        "refused, even under a daemon of root, whose jobs own it",
        "import fcntl\nprogram = os.open('/usr/bin/env', os.O_RDONLY)\n"
        "say(attempt(fcntl.fcntl, program, fcntl.F_SETLEASE, fcntl.F_WRLCK), attempt(fcntl.fcntl, 2, 1024, 1))",
        lines=("EINVAL EINVAL",),
    ),
    attack(
        "modules",
        "modules of the kernel, which it loads for who asks for a protocol, a type of socket, a bridge",
        "refused before the kernel looks for them",
        "import fcntl\nsay({attempt(socket.socket, 16, 3, number) for number in (4, 6, 12, 16, 21)},\n"
        "    {attempt(socket.socket, 2, kind, 0) for kind in (0, 4, 5, 6, 10)},\n"
        "    {attempt(fcntl.ioctl, socket.socket(), ask, bytes(64)) for ask in (0x8940, 0x8982, 0x89a0)})",
        lines=("{'EPROTONOSUPPORT'} {'ESOCKTNOSUPPORT'} {'EPERM'}",),
    ),
    attack(
        "set aside",
        "memory that is never swapped and in no count, and huge pages that were set aside for others",
        "there is none",
        "say(call(447, 0), call(319, ctypes.create_string_buffer(b'x'), 4), call(9, 0, 2 << 20, 3, 0x40022, -1, 0))",
        lines=("ENOSYS ENOMEM ENOMEM",),
    ),
    attack(
        "io_uring",
        "an io_uring, past the filters on system calls",
        "refused",
        "say(call(425, 8, 0), call(426, 0, 0, 0, 0, 0, 0))",
        lines=("EPERM EPERM",),
    ),
    attack(
        "userfaultfd",
        "to stop the kernel in the middle of a copy",
        "refused",
        "say(call(323, 0))",
        lines=("EPERM",),
    ),
    attack(
        "the clock and the machine",
        "to set the clock, the host's name, and to reboot",
        "refused",
        "say(call(227, 0, 0), call(164, 0, 0), call(170, 0, 0), call(169, 0xfee1dead, 0, 0, 0), call(175, 0, 0, 0))",
        lines=("EPERM EPERM EPERM EPERM EPERM",),
    ),
    attack(
        "32-bit calls",
        "the system calls of another architecture, which a filter may have forgotten",
        "killed at the first one",
        # mov eax, 20 (getpid of i386); int 0x80; ret
        "import mmap\ncode = mmap.mmap(-1, 4096, prot=7)\ncode.write(b'\\xb8\\x14\\0\\0\\0\\xcd\\x80\\xc3')\n"
        "address = ctypes.addressof(ctypes.c_char.from_buffer(code))\n"
        "pid = os.fork()\nif pid == 0:\n    ctypes.CFUNCTYPE(ctypes.c_int)(address)(); os._exit(0)\n"
        "say(os.waitpid(pid, 0)[1] & 0x7f)",
        lines=("31",),
    ),
    attack(
        "setuid",
        "a setuid program of its own, and those of the system",
        "no program gives it another user or a capability",
        "import shutil\nshutil.copy('/bin/id', '/job/work/id')\nos.chmod('/job/work/id', 0o6755)\n"
        "say(subprocess.check_output(['/job/work/id', '-u'], text=True).strip())\n"
        "null = subprocess.DEVNULL\n"
        "say(subprocess.run(['su', '-c', 'true'], stdin=null, stderr=null).returncode != 0)\n"
        "say(attempt(os.setuid, 0))",
        lines=("1000", "True", "EINVAL"),
    ),
    attack(
        "device nodes",
        "a device node of the disk",
        "refused",
        "say(attempt(os.mknod, '/job/work/disk', 0o60666, os.makedev(8, 0)), os.path.exists('/dev/sda'), "
        "os.path.exists('/dev/mem'))",
        lines=("EPERM False False",),
    ),
)
