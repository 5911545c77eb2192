"""Why a job can't run a program here: found by looking at its file and at what the sandbox shows of the machine."""

import os
import stat
from collections.abc import Collection, Sequence
from pathlib import Path

from fsm_miner.config.model import Config
from runners.run import Bind
from runners.system_view import system_folders

__all__ = ["Programs"]

_LINKS_MAX = 40  # as the kernel's (path_resolution(7))
_SCRIPTS_MAX = 4  # a script whose interpreter is a script, and so on (execve(2))
_FIRST_LINE_BYTES = 256


class Programs:
    """What a configuration's jobs can see of the machine."""

    def __init__(self, config: Config) -> None:
        self._shown: Sequence[str] = ("/",)
        self._links: Collection[str] = ()
        if config.sandbox.backend == "bubblewrap":
            binds, links = system_folders()
            self._shown = [*(bind.target for bind in binds), *map(str, config.sandbox.extra_ro_binds)]
            self._links = [path for _, path in links]

    def problem(self, program: str, more: Sequence[Bind] = ()) -> str | None:
        """Say why a job can't run the program (an absolute path) here; None if it can.

        `more` are binds that the job has beside those of every job. Whether root may run what belongs to others, a
        file's architecture and the libraries it needs are not looked at.
        """
        return self._problem(program, [*self._shown, *(bind.target for bind in more)], _SCRIPTS_MAX)

    def _problem(self, program: str, shown: Sequence[str], scripts: int) -> str | None:
        real = os.path.realpath(program)
        try:
            mode = Path(program).stat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            leads = f" leads to {real}, which" if Path(program).is_symlink() else ""
            return f"{program}{leads} is not there"
        except OSError as error:
            return f"{program} is out of reach: {error.strerror}"
        if not stat.S_ISREG(mode):
            return f"{program} is {'a folder' if stat.S_ISDIR(mode) else 'no file'}, not a program"
        if not os.access(program, os.X_OK):
            return f"{program} may not be executed by this user; run: chmod +x {real}"
        hidden = self._hidden(program, shown)
        if hidden is not None:
            leads = "" if hidden == program else f" leads to {hidden}, which"
            return f"{program}{leads} is not in the sandbox: add its folder to sandbox.extra_ro_binds"
        interpreter = _interpreter(program)
        if interpreter is None or not scripts:
            return None
        problem = self._problem(interpreter, shown, scripts - 1)
        return None if problem is None else f"{program} is a script, and its interpreter {problem}"

    def _hidden(self, program: str, shown: Sequence[str]) -> str | None:
        """Return the path at which a job's look for the program ends, following links as the sandbox has them."""
        place = program
        for _ in range(_LINKS_MAX):
            bases = [folder for folder in shown if Path(place).is_relative_to(folder)]
            if not bases and not any(Path(place).is_relative_to(link) for link in self._links):
                return place
            # The longest: below a folder that is shown by itself, links that led there on the host are none.
            target = _first_link(max(bases, key=len, default="/"), place)
            if target is None:
                return None
            place = target
        return place


def _first_link(base: str, place: str) -> str | None:
    """Return where the path leads by the first link below `base` that is a part of it; None: there is none."""
    rest = Path(place).relative_to(base).parts
    walked = Path(base)
    for index, part in enumerate(rest):
        if (walked / part).is_symlink():
            return os.path.normpath(walked.joinpath((walked / part).readlink(), *rest[index + 1 :]))
        walked /= part
    return None


def _interpreter(program: str) -> str | None:
    """Return what a script names in its first line, if that is an absolute path (execve(2))."""
    try:
        with Path(program).open("rb") as file:
            line = file.read(_FIRST_LINE_BYTES).partition(b"\n")[0]
    except OSError:
        return None  # a program that may be run and not read is no script
    if not line.startswith(b"#!") or not line.isascii():
        return None
    words = line[2:].decode().split()
    return words[0] if words and words[0].startswith("/") and words[0].isprintable() else None
