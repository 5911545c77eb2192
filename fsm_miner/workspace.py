"""A job's folder.

    <root>/<job_id>/              the first attempt; <job_id>@<attempt> for later ones
      input/    inputs, read-only inside the sandbox
      work/     where the command starts; a link for each input
      output/   where results may go as well
      logs/     exec.log, and exec.<run>.log of earlier runs; `stdout` where an artifact takes it
      control/  what the job must never see: locks, status files, task files
      state.json  a snapshot for people (fsm_miner.snapshot)
    <root>/.trash-.../            on its way out

Layout: specification, section 3. Everything is the daemon's alone (mode 0700).
"""

import os
import re
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from fsm_miner.beneath import path_problem
from fsm_miner.offload import offload
from fsm_miner.tree_removal import remove_tree
from journal.port import StreamKey
from runners.run import RunPaths

__all__ = ["TRASH_PREFIX", "Workspace", "WorkspaceError", "free_bytes", "key_of_folder"]

TRASH_PREFIX = ".trash-"
_JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_FOLDER_NAME = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,127})(?:@([1-9][0-9]{0,8}))?")
_ATTEMPT_MAX = 999_999_999
_KEPT_LOGS_MAX = 1000
_MODE = 0o700


class WorkspaceError(Exception):
    """The folder is not what it must be. Names what stands where."""


class Workspace:
    """The folder of one attempt of one job: its paths, and what is done to it as a whole.

    Preparing, wiping and removing run in a thread; each may be cut off at any point and done again.
    """

    def __init__(self, root: Path, job_id: str, attempt: int) -> None:
        assert root.is_absolute(), root
        assert _JOB_ID.fullmatch(job_id), f"not a job id: {job_id!r}"
        assert 1 <= attempt <= _ATTEMPT_MAX, attempt
        self.root = root
        self.key = StreamKey(job_id, attempt)
        self.folder = root / (job_id if attempt == 1 else f"{job_id}@{attempt}")
        self.input = self.folder / "input"
        self.work = self.folder / "work"
        self.output = self.folder / "output"
        self.logs = self.folder / "logs"
        self.control = self.folder / "control"
        self.state_json = self.folder / "state.json"

    def __repr__(self) -> str:
        return f"Workspace({self.folder})"

    @property
    def exec_log(self) -> Path:
        """Where the present run's standard output and error go."""
        return self.logs / "exec.log"

    @property
    def stdout(self) -> Path:
        """Where standard output goes alone, if an artifact takes it. Outside what the job can see."""
        return self.logs / "stdout"

    @property
    def run_paths(self) -> RunPaths:
        """The same paths as a run wants them."""
        return RunPaths(
            work=self.work, input=self.input, output=self.output, log=self.exec_log, control=self.control
        )

    async def create(self) -> None:
        """Make the folder and its parts, or whatever of them is missing.

        Raises:
            WorkspaceError: something else stands in the place of a folder.
            OSError: the disk refuses.

        """
        await offload(self._create)

    async def reset_for_run(self, run: int) -> None:
        """Make it as good as new for run number `run` (from 1), keeping the logs of earlier runs.

        Wipes input, work and output, and the earlier run's standard output, lest it be delivered as
        this one's. `control/` stays: an earlier run's lock and status are evidence. Call it only when
        nothing of an earlier run is alive.

        Raises:
            WorkspaceError, OSError: as `create`, or something could not be removed.

        """
        assert run >= 1, run
        await offload(lambda: self._reset(run))

    async def remove(self) -> None:
        """Remove the folder and everything in it. First out of the way at one stroke, then for good.

        Raises:
            OSError: something could not be removed; what is left waits in the trash (`fsm_miner.sweeper`).

        """
        await offload(self._remove)

    async def give_back(self) -> None:
        """Remove what the run has written, its logs apart. Only where nothing of it is alive or will be delivered.

        Raises:
            OSError: something could not be removed.

        """
        await offload(self._give_back)

    async def link_inputs(self, targets: Mapping[str, PurePosixPath]) -> None:
        """Make inputs appear by name in work/, where the command starts, as links.

        `targets` maps a name to the path the file has for the job: `/job/input/<name>` inside a sandbox,
        where input/ is read-only, or the host's path without one. Outside the sandbox such a link leads
        nowhere, and nothing outside follows one. A link of the same name is replaced.

        Raises:
            WorkspaceError: something other than a link has the name.

        """
        await offload(lambda: self._link_inputs(targets))

    def _create(self) -> None:
        self.root.mkdir(mode=_MODE, parents=True, exist_ok=True)
        for folder in (self.folder, self.input, self.work, self.output, self.logs, self.control):
            _ensure_folder(folder)

    def _reset(self, run: int) -> None:
        self._create()
        for folder in (self.input, self.work, self.output):
            remove_tree(folder)
            _ensure_folder(folder)
        self.stdout.unlink(missing_ok=True)
        self._keep_log(run)

    def _give_back(self) -> None:
        for folder in (self.work, self.output):
            if os.path.lexists(folder):
                remove_tree(folder)
        self.stdout.unlink(missing_ok=True)

    def _keep_log(self, run: int) -> None:
        """Rename exec.log to exec.<n>.log: n is the run before, or the next free number."""
        if not os.path.lexists(self.exec_log):
            return
        first = max(run - 1, 1)
        for n in range(first, first + _KEPT_LOGS_MAX):
            kept = self.logs / f"exec.{n}.log"
            if not os.path.lexists(kept):
                self.exec_log.rename(kept)
                return
        raise WorkspaceError(f"{self.logs}: more than {_KEPT_LOGS_MAX} logs of earlier runs; remove some")

    def _remove(self) -> None:
        trash = self.root / f"{TRASH_PREFIX}{self.folder.name}-{secrets.token_hex(6)}"
        try:
            self.folder.rename(trash)
        except FileNotFoundError:
            return
        remove_tree(trash)

    def _link_inputs(self, targets: Mapping[str, PurePosixPath]) -> None:
        for name, target in targets.items():
            assert "/" not in name, f"not a plain name: {name!r}"
            assert path_problem(name) is None, f"not a plain name: {name!r}"
            assert target.is_absolute(), target
            link = self.work / name
            if link.is_symlink():
                link.unlink()
            try:
                link.symlink_to(target)
            except FileExistsError:
                raise WorkspaceError(f"{link}: is taken by something that is no link to an input") from None


def key_of_folder(name: str) -> StreamKey | None:
    """Return the stream whose workspace has this folder name; None if none can."""
    match = _FOLDER_NAME.fullmatch(name)
    if match is None or match[2] == "1":  # the first attempt has no suffix
        return None
    return StreamKey(match[1], int(match[2] or 1))


def free_bytes(path: Path) -> int:
    """Return the bytes that this user may still write to the file system of `path`.

    Raises:
        OSError: there is no such path.

    """
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


def _ensure_folder(path: Path) -> None:
    try:
        path.mkdir(mode=_MODE)
    except FileExistsError:
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode):
            raise WorkspaceError(f"{path}: is no folder; remove it") from None
        if stat.S_IMODE(found.st_mode) != _MODE:
            path.chmod(_MODE)
