"""Reading and changing what is not its own."""

from tests.hostile.attack import attack

__all__ = ["READING"]

READING = (
    attack(
        "secrets of the host",
        "the token, the configuration, the journal, /etc/shadow, root's files",
        "none of them is there",
        "say(*(os.path.exists(path) for path in ('SECRET_PLACE', 'SECRET_PLACE/config.yaml', "
        "'SECRET_PLACE/state/journal.db', '/etc/shadow', '/etc/passwd', '/root', '/home', '/var', '/run', "
        "'/proc/1/rootSECRET_PLACE', '/proc/1/cwdSECRET_PLACE', '/proc/self/rootSECRET_PLACE')))",
        lines=(" ".join(["False"] * 12),),
    ),
    attack(
        "the daemon's environment",
        "a token in the environment of anything it can see",
        "nothing is there",
        "found = b''.join(open(f'/proc/{p}/environ', 'rb').read() for p in os.listdir('/proc') if p.isdigit() "
        "and os.access(f'/proc/{p}/environ', os.R_OK) and attempt(open, f'/proc/{p}/environ') == 'ok')\n"
        "say(b'MINER_AUTH' in found, b'token' in found)",
        lines=("False False",),
    ),
    attack(
        "other jobs",
        "the folders of other jobs, up and sideways",
        "its own three folders are all there is",
        "say(sorted(os.listdir('/job')), os.path.exists('/job/output/../../../jobs'), "
        "sorted(os.listdir('/job/work/..')))",
        lines=("['input', 'output', 'work'] False ['input', 'output', 'work']",),
    ),
    attack(
        "the system",
        "to change a program that everybody uses",
        "read-only",
        "got = (attempt(open, '/usr/bin/env', 'ab'), attempt(os.mkdir, '/usr/local/evil'), attempt(os.mkdir, '/evil'), "
        "attempt(open, '/etc/ld.so.preload', 'w'))\n"
        # Under a daemon that is no root, the files' own permissions may be in the way first.
        "say(*got); say('refused', all(one in ('EROFS', 'EACCES') for one in got))",
        lines=("refused True",),
    ),
    attack(
        "inputs",
        "to change its inputs: written to, by their links, renamed, removed, opened up, and with a FIFO, a device and "
        "links beside them",
        "read-only",
        "import fcntl\nplace, name = '/job/input', '/job/input/in.txt'\n"
        "say(none(attempt(open, place + '/x', 'w'), attempt(open, name, 'r+'), attempt(open, '/job/work/in.txt', 'a'), "
        "attempt(os.rename, place, '/job/work/input'), attempt(os.rename, name, place + '/x'), "
        "attempt(os.unlink, name)))\n"
        "say(none(attempt(os.chmod, name, 0o666), attempt(os.chmod, place, 0o777), attempt(os.utime, name), "
        "attempt(os.truncate, name, 0), attempt(os.mkfifo, place + '/x'), attempt(os.symlink, '/etc', place + '/x'), "
        "attempt(os.mknod, place + '/x', 0o60666, os.makedev(8, 0)), attempt(os.link, name, place + '/x')))\n"
        "fd = os.open(name, os.O_RDONLY)\n"
        "say(none(attempt(os.open, f'/proc/self/fd/{fd}', os.O_RDWR), attempt(os.link, name, '/job/output/x')), "
        "open(name).read())",
        lines=(
            "6",
            "8",
            "2 honest",
        ),
        more={"input": {"inline": {"in.txt": "honest"}}},
    ),
    attack(
        "a link in an input's place",
        "to have what it writes go elsewhere: its inputs' links exchanged for others",
        "outside of its sandbox nobody follows them; the input is as it was",
        "os.unlink('/job/work/in.txt'); os.symlink('/job/input', '/job/output/sub'); "
        "os.symlink('/../../../../etc/hostname', '/job/work/in.txt'); say(open('/job/input/in.txt').read())",
        lines=("honest",),
        code="E_ARTIFACT",
        artifacts=(
            {"path": "in.txt", "type": "text/plain", "max_mb": 1},
            {"path": "sub/in.txt", "type": "text/plain"},
        ),
        more={"input": {"inline": {"in.txt": "honest"}}},
    ),
    attack(
        "its own record",
        "to forge its exit code in the files that process 1 holds open for the daemon",
        "what the sandbox says last counts",
        "for n in range(3, 20):\n"
        "    attempt(lambda: os.write(os.open(f'/proc/1/fd/{n}', os.O_WRONLY | os.O_APPEND), "
        "b'\\n{\"exit-code\": 0}\\n'))\n"
        "say(sorted(int(fd) for fd in os.listdir('/proc/self/fd'))[:3]); sys.exit(3)",
        code="E_EXIT",
        message="exit code 3",
        lines=("[0, 1, 2]",),
    ),
)
