"""The Python runner's part of a run: a trusted task, called by `task_host` in the interpreter of a venv."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runners import task_host
from runners.run import JOB_VIEW, Bind, JobView

__all__ = ["PythonRun", "python_binds", "python_run", "task_name_problem"]

RESULT_NAME = "result.json"
RESULT_BYTES_MAX = 1024 * 1024
_LINKS_MAX = 16
_IN_SYSTEM = Path("/usr")


@dataclass(frozen=True, slots=True)
class PythonRun:
    """What a Python task adds to a run.

    `task_json` is to be written to `task_file` (in control/, so that the job cannot touch it) before the launch.
    """

    argv: tuple[str, ...]
    binds: tuple[Bind, ...]
    task_file: Path
    task_json: bytes


def task_name_problem(task: str) -> str | None:
    """Return why `task` cannot be a task's name, or None."""
    if task_host.TASK_NAME.fullmatch(task):
        return None
    return (
        f"{task[:80]!r}: a task's name is made of letters, digits and _, with dots between at most four parts"
    )


def python_run(
    task: str,
    params: Mapping[str, Any],
    *,
    task_paths: Sequence[Path],
    venv: Path,
    task_file: Path,
    view: JobView = JOB_VIEW,
    result_bytes_max: int = RESULT_BYTES_MAX,
) -> PythonRun:
    """Return how to run `tasks.<task>:run(**params)` in the venv. Reads the venv's links, writes nothing.

    With `view` of a run without a sandbox nothing is bound, and the host's paths are used.

    Raises:
        ValueError: `task` is no task's name, or `params` is not JSON.
        OSError: the venv has no interpreter.

    """
    if (problem := task_name_problem(task)) is not None:
        raise ValueError(problem)
    interpreter = venv / "bin" / "python"
    interpreter.stat()
    sandboxed = view == JOB_VIEW
    host_file = Path(task_host.__file__)
    seen_host = "/job/task_host.py" if sandboxed else str(host_file)
    seen_file = "/job/task.json" if sandboxed else str(task_file)
    seen_paths = [f"/job/tasks/{i}" if sandboxed else str(path) for i, path in enumerate(task_paths)]
    description = {
        "task": task,
        "params": dict(params),
        "paths": seen_paths,
        "result": f"{view.output}/{RESULT_NAME}",
        "result_bytes_max": result_bytes_max,
    }
    binds = (
        *python_binds(venv),
        Bind(host_file, seen_host),
        Bind(task_file, seen_file),
        *(Bind(path, seen) for path, seen in zip(task_paths, seen_paths, strict=True)),
    )
    try:
        text = json.dumps(description, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{task}: params: not JSON: {error}") from None
    return PythonRun(
        # -I: neither the environment nor the working folder decides what is imported; -u: the log is live.
        argv=(str(interpreter), "-I", "-u", seen_host, seen_file),
        binds=binds if sandboxed else (),
        task_file=task_file,
        task_json=text.encode(),
    )


def python_binds(venv: Path) -> tuple[Bind, ...]:
    """Return the read-only binds that the venv's interpreter needs, at the paths where they are on the host.

    That is the venv, and the prefix of the interpreter it was made with (pyvenv.cfg and each step of the links
    from bin/python), unless it lies in /usr, which every sandbox has.
    """
    needed = [venv]
    home = _home(venv / "pyvenv.cfg")
    if home is not None:
        needed += [home.parent, home.resolve().parent]
    step = venv / "bin" / "python"
    for _ in range(_LINKS_MAX):
        if not step.is_symlink():
            break
        step = Path(os.path.normpath(step.parent / step.readlink()))
        if not step.is_relative_to(venv):
            needed += [step.parent.parent, step.resolve().parent.parent]
    folders = {folder for folder in needed if _is_needed(folder)}
    return tuple(Bind(folder, str(folder)) for folder in sorted(folders))


def _is_needed(folder: Path) -> bool:
    # /, as the prefix of /bin/python3, is never shown: /bin leads to /usr.
    return folder != Path("/") and not folder.is_relative_to(_IN_SYSTEM) and ".." not in folder.parts


def _home(config: Path) -> Path | None:
    """Return the folder of the interpreter that made the venv (site, PEP 405)."""
    try:
        lines = config.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return None
    for line in lines:
        key, found, value = line.partition("=")
        if found and key.strip() == "home" and value.strip().startswith("/"):
            return Path(value.strip())
    return None
