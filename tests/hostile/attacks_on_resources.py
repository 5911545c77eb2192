"""More than its share: of processes, memory, disk, log and processor."""

from tests.hostile.attack import attack

__all__ = ["RESOURCES"]

RESOURCES = (
    attack(
        "fork bomb",
        "as many processes as it can have",
        "stopped at the limit on processes, or on memory",
        # Bounded, so that a defect here does not take the test machine with it.
        "pids = []\nfor n in range(1600):\n    pid = os.fork()\n    if pid == 0:\n        time.sleep(60); os._exit(0)\n"
        "say('forked', n); time.sleep(60)",
        code="E_OOM",
    ),
    attack(
        "thread bomb",
        "as many threads as it can have",
        "stopped at the limit, which counts threads too",
        "import threading\nthreading.stack_size(65536)\n"
        "try:\n    for n in range(1600): threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
        "except RuntimeError: pass\ntime.sleep(60)",
        code="E_OOM",
        message="processes",
    ),
    attack(
        "memory",
        "more memory than it may use",
        "killed, and told so",
        "held = []\nwhile True:\n    held.append(bytearray(b'x' * (16 << 20))); time.sleep(0.01)",
        code="E_OOM",
    ),
    attack(
        "memory of many processes",
        "the same, spread over ten processes",
        "the sum counts",
        "for n in range(10):\n    if os.fork() == 0:\n        held = b'x' * (60 << 20); time.sleep(60); os._exit(0)\n"
        "time.sleep(60)",
        code="E_OOM",
    ),
    attack(
        "swap",
        "to have its memory swapped out, where it is in no process",
        "counted all the same",
        "import mmap\nheld = []\n"
        "while True:\n    one = mmap.mmap(-1, 16 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)\n    held.append(one)\n"
        "    one.write(b'x' * (16 << 20)); address = ctypes.addressof(ctypes.c_char.from_buffer(one))\n"
        "    call(28, address, 16 << 20, 21); time.sleep(0.01)",
        code="E_OOM",
    ),
    attack(
        "memory in no process",
        "shared memory that no process has any more, having let go of it",
        "counted as much as is mapped",
        "import mmap\nheld = []\nfor n in range(96):\n"
        "    one = mmap.mmap(-1, 16 << 20); one.write(b'x' * (16 << 20)); one.madvise(mmap.MADV_DONTNEED)\n"
        "    held.append(one); time.sleep(0.03)",
        code="E_OOM",
    ),
    attack(
        "first thread ended",
        "memory of a process that shows nothing, as its first thread has ended",
        "looked at by another of its threads",
        "import threading\nheld = []\ndef rest():\n    time.sleep(0.1)\n"
        "    for n in range(96): held.append(bytearray(b'x' * (16 << 20))); time.sleep(0.03)\n"
        "    os._exit(0)\nthreading.Thread(target=rest).start(); libc.syscall(60, 0)",
        code="E_OOM",
    ),
    attack(
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
    attack(
        "disk flood",
        "to fill the disk with one output after the other",
        "stopped at its limit on output",
        "n = 0\nwhile True:\n    n += 1\n    open(f'/job/output/{n}', 'wb').write(bytes(1 << 20)); time.sleep(0.005)",
        code="E_OUTPUT",
    ),
    attack(
        "the disk at one stroke",
        "all the room of the disk, by fallocate, without writing a byte",
        "there is no such call; the C library writes instead, and is stopped like everybody",
        "own = os.open('/job/output/out.bin', os.O_CREAT | os.O_RDWR)\n"
        "say([call(285, own, mode, 0, 1 << 40) for mode in (0, 1)], call(285, 2, 1, 0, 1 << 40))",
        lines=("['ENOTSUP', 'ENOTSUP'] ENOTSUP",),
    ),
    attack(
        "one huge file",
        "a single file that never ends",
        "stopped at its limit on output, or by the kernel at the limit on a file's size",
        "head -c 1G /dev/zero > /job/work/huge",
        shell=True,
        code="E_OUTPUT",
    ),
    attack(
        "files without a name",
        "to fill the disk with files that it has unlinked",
        "open files count, names or not",
        "held = []\nwhile True:\n    name = f'/job/work/{len(held)}'\n    file = open(name, 'wb', buffering=0); "
        "os.unlink(name)\n    file.write(bytes(1 << 20)); held.append(file); time.sleep(0.005)",
        code="E_OUTPUT",
    ),
    attack(
        "a million small files",
        "to use up the inodes of the disk",
        "stopped at the limit on files",
        "n = 0\nwhile True:\n    folder = f'/job/work/d{n}'; os.mkdir(folder)\n"
        "    for _ in range(1000):\n        n += 1; os.close(os.open(f'{folder}/{n}', os.O_CREAT | os.O_WRONLY))",
        code="E_OUTPUT",
        message="files",
    ),
    attack(
        "sparse file",
        "a file of a terabyte that takes no room",
        "refused by the kernel",
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "say(attempt(os.truncate, os.open('/job/output/out.bin', os.O_CREAT | os.O_RDWR), 1 << 40))",
        lines=("EFBIG",),
    ),
    attack(
        "log flood",
        "to fill the disk with its log",
        "stopped at the limit on the log",
        "line = b'x' * 65535 + b'\\n'\nwhile True: os.write(2, line * 8); time.sleep(0.002)",
        code="E_OUTPUT",
        message="printed",
    ),
    attack(
        "deep folders",
        "folders nested so deeply that nobody can remove them",
        "stopped; the sweeper removes them",
        "for n in range(3000):\n    os.mkdir('d'); os.chdir('d')\ntime.sleep(60)",
        code="E_OUTPUT",
        message="deep",
    ),
    attack(
        "processor",
        "all processors and the disk, at the highest priority",
        "it can't raise its priorities, and runs below everybody else",
        "say('nice', attempt(os.setpriority, os.PRIO_PROCESS, 0, -10), os.getpriority(os.PRIO_PROCESS, 0) >= 10)\n"
        "say('realtime', attempt(os.sched_setscheduler, 0, os.SCHED_FIFO, os.sched_param(50)))\n"
        "before = libc.syscall(252, 1, 0); libc.syscall(251, 1, 0, 2 << 13)\n"
        "say('disk', before == libc.syscall(252, 1, 0) != 2 << 13)\n"
        "end = time.monotonic() + 1.5\n"
        "for _ in range(4):\n    if os.fork() == 0:\n        while time.monotonic() < end: pass\n        os._exit(0)\n"
        "while time.monotonic() < end: pass",
        lines=("nice EACCES True", "realtime EPERM", "disk True"),
    ),
    attack(
        "disk caches",
        "to have the whole machine write out its caches again and again, by sync, syncfs and fsync",
        "it may; its priority for the disk is low, and it ends",
        "end = time.monotonic() + 1.5\nroot = os.open('/usr', os.O_RDONLY)\n"
        "for flush in (os.sync, lambda: libc.syncfs(root), lambda: os.fsync(own.fileno())):\n"
        "    if os.fork() == 0:\n"
        "        own = open('/job/work/%d' % os.getpid(), 'wb', buffering=0); n = 0\n"
        "        while time.monotonic() < end: os.pwrite(own.fileno(), bytes(4096), 0); flush(); n += 1\n"
        "        os._exit(0 if n else 1)\n"
        "say('flushed', [os.waitstatus_to_exitcode(os.wait()[1]) for _ in range(3)])",
        lines=("flushed [0, 0, 0]",),
    ),
    attack(
        "higher limits",
        "to raise its own limits, and to have others killed first when memory is short",
        "the hard limits stand; its place in that order is read-only",
        "say('badness', attempt(open, '/proc/self/oom_score_adj', 'w'))\nimport resource\n"
        "for name in ('NOFILE', 'FSIZE', 'CORE'):\n    which = getattr(resource, 'RLIMIT_' + name)\n"
        "    soft, hard = resource.getrlimit(which)\n"
        "    try: resource.setrlimit(which, (hard + 1, hard + 1))\n"
        "    except (ValueError, OSError): pass\n"
        "    say(name, hard >= 0, resource.getrlimit(which)[1] == hard)",
        lines=("badness EROFS", "NOFILE True True", "FSIZE True True", "CORE True True"),
    ),
    attack(
        "watches",
        "all inotify instances of the daemon's user, so that the daemon can watch no file any more",
        "it may, and other jobs then get none; the daemon, which needs none, still reloads its rules",
        "n = 0\nwhile n < 5000 and libc.inotify_init1(0) >= 0: n += 1\nsay('ended', n < 5000); time.sleep(0.5)",
        lines=("ended True",),
    ),
)
