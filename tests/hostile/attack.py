"""One job that tries to do harm: what it does, and what must come of it.

An attack is a job of the rules `sh` and `python3`, which let it do whatever a program can. Its script prints what it
got, a line each; `lines` are what it must have got. `codes` are the errors that the job may end with, None for a job
that ends well, having got nowhere. What can be seen from outside only is looked at by `after`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["OUT", "After", "Attack", "attack"]

After = Callable[[Any, Mapping[str, Any]], None]
"""Takes the scene (tests.hostile.scene) and what the coordinator knows of the job; asserts."""

OUT = ({"path": "out.bin", "type": "application/octet-stream", "max_mb": 4},)


@dataclass(frozen=True, slots=True)
class Attack:
    """One job that tries to do harm.

    `egress`: it may reach the host ALLOWED. `company`: the script of another job, with egress to the host CLOSED,
    which has printed `here` before the attack begins and goes on until it is over.
    """

    name: str
    tries: str
    gets: str
    script: str
    shell: bool = False
    codes: tuple[str | None, ...] = (None,)
    message: str = ""
    lines: tuple[str, ...] = ()
    artifacts: tuple[dict[str, Any], ...] = ()
    cancel: bool = False
    egress: bool = False
    company: str = ""
    after: tuple[After, ...] = ()
    more: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def ends(self) -> str:
        """How the job ends, in words."""
        return " or ".join(code or "done" for code in self.codes)

    def manifest(self, places: Mapping[str, str]) -> dict[str, Any]:
        """Return the job's manifest; `places` are the words of the script that are not known before."""
        network = {"network": {"allow": [f"localhost:{places['ALLOWED']}"]}} if self.egress else {}
        script = self.script if self.shell else _HELP + (_EGRESS_HELP if self.egress else "") + self.script
        return {**python(script, places, shell=self.shell, artifacts=self.artifacts), **network, **self.more}

    def beside(self, places: Mapping[str, str]) -> dict[str, Any]:
        """Return the manifest of its company."""
        network = {"allow": [f"localhost:{places['CLOSED']}"]}
        return {**python(_HELP + self.company + _UNTIL_OVER, places), "network": network}


def attack(
    name: str,
    tries: str,
    gets: str,
    script: str,
    *,
    code: str | tuple[str | None, ...] | None = None,
    **more: Any,
) -> Attack:
    """Make one; `code` may be one or several."""
    return Attack(name, tries, gets, script, codes=code if isinstance(code, tuple) else (code,), **more)


def python(
    script: str, places: Mapping[str, str], *, shell: bool = False, artifacts: tuple[dict[str, Any], ...] = ()
) -> dict[str, Any]:
    """Return the manifest of a script."""
    for word, value in places.items():
        script = script.replace(word, value)
    return {
        "runner": "cli",
        "command": "sh" if shell else "python3",
        "args": ["-c", script],
        "timeout_s": 20,
        "artifacts": list(artifacts),
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
def none(*results):
    return "ok" not in results and len(results)
def say(*words):
    print(*words, flush=True)
"""

# And those with a way out, at the proxy.
_EGRESS_HELP = r"""
def ask(raw):
    with socket.create_connection(("127.0.0.1", 3128), 10) as proxy:
        proxy.sendall(raw.encode("latin-1"))
        parts = iter(lambda: proxy.recv(65536), b"")
        return b"".join(parts).decode("latin-1")
def told(raw):
    return ask(raw).split(" ", 2)[1]
def connect(target):
    return told(f"CONNECT {target} HTTP/1.1\r\n\r\n")
def refused(answers):
    answers = list(answers)
    return len(answers) > 0 and set(answers) <= {"400", "403"}
"""

_UNTIL_OVER = "\nsay('here')\nwhile not os.path.exists('/job/work/over'): time.sleep(0.02)\n"
