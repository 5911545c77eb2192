"""What it leaves for the daemon to collect, to show and to sweep."""

from tests.hostile.attack import OUT, attack

__all__ = ["OUTPUTS"]


def written_last(scene, view):
    """What the attack left behind died with it."""
    assert scene.delivered(view) == b"honest"


def nothing_of_the_host(scene, view):
    if view["state"] == "done":
        assert scene.delivered(view, "sub/hostname") == b"honest"


def nothing_but_text(scene, view):
    message = view["outcomes"][0]["body"]["error_msg"]
    assert message.isprintable(), message  # no control characters, none that turn the direction of writing
    assert scene.rig.node.log("forged") == []


def byte_for_byte(scene, view):
    log = scene.log(view)
    assert log == scene.rig.node.exec_log(view["job_id"]).read_bytes()
    assert bytes(range(256)) * 4096 in log


_RUBBISH = r"""
import fcntl
for place in (b"/job/output", b"/job/work", b"/tmp", b"/dev/shm"):
    os.chdir(place)
    for name in (b"-rf", b"--", b"a\nb", b"\xff\xfe", b"\x1b[2J", b" ", b"*", b"...", b"\xe2\x80\xae", b"n" * 255,
                 b"%s", b"'\""):
        open(name, "w").close()
        os.mkdir(name[:250] + b".d"); os.symlink(b"../" + name, name[:250] + b".l")
    for n in range(300): os.link(b"-rf", b"link%d" % n)
    for name, target in ((b"loop1", b"loop2"), (b"loop2", b"loop1"), (b"root", b"/"), (b"up", b"../../../.."),
                         (b"self", b".")):
        os.symlink(target, name)
    os.mkfifo(b"fifo"); socket.socket(socket.AF_UNIX).bind(b"socket")
    for mode in (0o0000, 0o0111, 0o7777, 0o1000, 0o2070):
        os.makedirs(b"m%o/in/side" % mode); open(b"m%o/in/file" % mode, "w").close()
        os.chmod(b"m%o/in/file" % mode, mode); os.chmod(b"m%o/in" % mode, mode); os.chmod(b"m%o" % mode, mode)
    for n, when in enumerate((-1 << 40, -1, 1 << 31, 1 << 33, 1 << 40)):
        open(b"t%d" % n, "w").close(); attempt(os.utime, b"t%d" % n, (when, when))
    attempt(os.setxattr, b"-rf", b"user.x", b"x" * 1000)
    shut = struct.pack("<IHHIHHIHHI", 2, 1, 0, 0xffffffff, 4, 0, 0xffffffff, 32, 0, 0xffffffff)
    attempt(os.setxattr, b"m7777", b"system.posix_acl_default", shut); attempt(os.mkdir, b"m7777/later")
    with open(b"immutable", "w") as file:
        flags = struct.pack("l", 0x10)
        say("immutable", attempt(fcntl.ioctl, file, 0x40086602, flags) != "ok")
os.chdir("/job/output")
for _ in range(90): os.mkdir(b"d" * 255); os.chdir(b"d" * 255)
os.mkfifo(b"end")
os.chmod("/job/work", 0); os.chmod("/job/output", 0)
say("left")
"""

_ARTIFACT = {"code": "E_ARTIFACT", "artifacts": OUT}

OUTPUTS = (
    attack(
        "symlink as artifact",
        "to have a file of the host uploaded by a symbolic link",
        "refused",
        "os.symlink('/etc/hostname', '/job/output/out.bin')",
        **_ARTIFACT,
    ),
    attack(
        "symlinked folder",
        "the same by a folder on the way",
        "refused",
        "os.symlink('/etc', '/job/output/sub')",
        code="E_ARTIFACT",
        artifacts=({"path": "sub/hostname", "type": "text/plain", "max_mb": 4},),
    ),
    attack(
        "hard link as artifact",
        "a hard link to a program of the system",
        "no link crosses the sandbox's mounts",
        "say(attempt(os.link, '/usr/bin/env', '/job/output/out.bin'))",
        lines=("EXDEV",),
        **_ARTIFACT,
    ),
    attack(
        "FIFO as artifact",
        "to have the daemon wait for ever for a writer",
        "refused without being opened",
        "os.mkfifo('/job/output/out.bin')",
        **_ARTIFACT,
    ),
    attack(
        "socket as artifact",
        "a socket where a file should be",
        "refused",
        "s = socket.socket(socket.AF_UNIX); s.bind('/job/output/out.bin')",
        **_ARTIFACT,
    ),
    attack(
        "folder as artifact",
        "a folder where a file should be",
        "refused",
        "os.mkdir('/job/output/out.bin')",
        **_ARTIFACT,
    ),
    attack(
        "endless artifact",
        "an artifact that is a link to /dev/zero",
        "refused",
        "os.symlink('/dev/zero', '/job/output/out.bin')",
        **_ARTIFACT,
    ),
    attack(
        "swapped artifact",
        "to swap the artifact for a link between check and upload, by a process that it leaves behind",
        "nothing of a job lives when its artifacts are looked at; what was written last is delivered",
        "open('/job/output/out.bin', 'wb').write(b'honest')\n"
        "if os.fork() == 0:\n    os.setsid(); time.sleep(0.3)\n    while True:\n"
        "        os.symlink('/etc/hostname', '/job/output/new'); os.replace('/job/output/new', '/job/output/out.bin')\n"
        "say('left')",
        lines=("left",),
        artifacts=OUT,
        after=(written_last,),
    ),
    attack(
        "swapped folder",
        "to swap the artifact's folder for a link to /etc and back, by four processes, before, while and after it ends",
        "its own file or nothing is delivered, never the host's",
        "import itertools\nos.chdir('/job/output'); os.mkdir('sub'); open('sub/hostname', 'wb').write(b'honest')\n"
        "os.symlink('/etc', 'link')\nfor _ in range(4):\n    if os.fork() == 0:\n        os.setsid()\n"
        "        while True: call(316, -100, NAMES[0], -100, NAMES[1], 2)\n"
        "time.sleep(0.05); say('swapping')".replace(
            "NAMES[0]", "ctypes.create_string_buffer(b'sub')"
        ).replace("NAMES[1]", "ctypes.create_string_buffer(b'link')"),
        lines=("swapping",),
        code=("E_ARTIFACT", None),
        artifacts=({"path": "sub/hostname", "type": "application/octet-stream", "max_mb": 4},),
        after=(nothing_of_the_host,),
    ),
    attack(
        "folders moved away",
        "to put a link in the place of its output folder, and of the folder that it works in",
        "they are where they are: no name of its own leads to them",
        "for name in ('/job/output', '/job/work', '/job'):\n"
        "    say(name, none(attempt(os.rename, name, name + '2'), attempt(os.rmdir, name), "
        "attempt(os.symlink, '/etc', name)))",
        lines=("/job/output 3", "/job/work 3", "/job 3"),
    ),
    attack(
        "unreadable artifact",
        "an artifact that nobody may read, in a folder that nobody may enter",
        "delivered or refused, but never stuck; the folder is swept all the same",
        "os.mkdir('/job/output/shut'); open('/job/output/shut/x', 'w').write('x'); os.chmod('/job/output/shut', 0)\n"
        "open('/job/output/out.bin', 'w').write('x'); os.chmod('/job/output/out.bin', 0); say('shut')",
        lines=("shut",),
        code=(None, "E_ARTIFACT"),
        artifacts=OUT,
    ),
    attack(
        "artifact too large",
        "to have more uploaded than was agreed",
        "refused",
        "open('/job/output/out.bin', 'wb').write(bytes(5 << 20))",
        code="E_OUTPUT",
        artifacts=OUT,
    ),
    attack(
        "terminal escapes",
        "to steer the terminal of whoever reads its log or why it failed, and to forge a record of the daemon's log",
        "printable text on one line is all that is shown",
        r"""
os.write(2, b'fine\n{"event":"forged"}\r\n\x1b]0;owned\x07\x1b[2J\x9b31m\0\xff\xfe\xe2\x80\xae owned\n'); sys.exit(3)
""",
        code="E_EXIT",
        message="owned",
        lines=("fine",),
        after=(nothing_but_text,),
    ),
    attack(
        "binary flood in the log",
        "to break whatever decodes its log",
        "delivered byte for byte",
        "os.write(2, bytes(range(256)) * 4096); os.write(2, b'\\n'); say('written')",
        lines=("written",),
        after=(byte_for_byte,),
    ),
    attack(
        "rubbish",
        "to leave behind what nobody can sweep: names with newlines, escapes, dashes and bytes that are no text, of "
        "255 bytes and in paths of thousands, FIFOs, sockets, links in circles and to /, shut and odd modes, immutable "
        "files, times beyond reckoning, hundreds of hard links, and its own folders shut",
        "what is not refused is swept",
        _RUBBISH,
        lines=("immutable True", "left"),
    ),
)
