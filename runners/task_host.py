"""Runs one task inside the sandbox: `python -I task_host.py <description.json>`. Standard library only.

The description: {"task": name, "params": {...}, "paths": [folder, ...], "result": file, "result_bytes_max": n}.
A task is the module `tasks.<name>` of one of the folders, with a function `run(**params)`; what it returns is
written to the result file as JSON. What it prints goes to the log. Exit codes: 0 done; 1 the task failed (its
traceback is in the log); 2 there is no such task, or it does not take these parameters.
"""

import importlib
import inspect
import json
import re
import sys
import traceback
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, cast

__all__ = [
    "EXIT_FAILED",
    "EXIT_REFUSED",
    "Description",
    "TaskRefused",
    "find_task",
    "main",
    "read_description",
]

EXIT_FAILED = 1
EXIT_REFUSED = 2
TASK_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}(?:\.[A-Za-z_][A-Za-z0-9_]{0,63}){0,3}")


class TaskRefused(Exception):
    """The task cannot be called like this; the message says why."""


class Description(NamedTuple):
    """What to run."""

    task: str
    params: dict[str, Any]
    paths: list[str]
    result: Path
    result_bytes_max: int


def read_description(path: Path) -> Description:
    """Read the file that the daemon wrote.

    Raises:
        TaskRefused: the task's name is none, or the parameters are no object.

    """
    fields: dict[str, Any] = json.loads(path.read_bytes())
    task: object = fields["task"]
    params: object = fields["params"]
    if not isinstance(task, str) or not TASK_NAME.fullmatch(task):
        raise TaskRefused(f"{str(task)[:80]!r} is not a task's name")
    if not isinstance(params, dict):
        raise TaskRefused(f"{task}: params: an object of names and values is needed")
    return Description(
        task=task,
        params=cast("dict[str, Any]", params),
        paths=[str(folder) for folder in fields["paths"]],
        result=Path(fields["result"]),
        result_bytes_max=int(fields["result_bytes_max"]),
    )


def find_task(task: str, paths: list[str]) -> Callable[..., Any]:
    """Import `tasks.<task>` from the first folder that has it, and return its `run`.

    Raises:
        TaskRefused: no folder has it, or it has no function `run`. What its import raises, passes through.

    """
    package = types.ModuleType("tasks")
    package.__path__ = paths  # only these folders, whatever else is called `tasks`
    sys.modules["tasks"] = package
    name = f"tasks.{task}"
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        # A module that the task itself lacks is the task's failure.
        if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
            raise
        raise TaskRefused(f"{task}: no such task in {', '.join(paths) or 'no folder at all'}") from None
    run: object = getattr(module, "run", None)
    if not callable(run):
        raise TaskRefused(f"{task}: {module.__file__} has no function run()")
    return run


def _call(description: Description) -> None:
    run = find_task(description.task, description.paths)
    try:
        inspect.signature(run).bind(**description.params)
    except TypeError as error:
        raise TaskRefused(f"{description.task}: params: {error}") from None
    text = json.dumps(run(**description.params), allow_nan=False).encode()
    if len(text) > description.result_bytes_max:
        raise ValueError(
            f"{description.task}: the result has {len(text)} bytes, at most {description.result_bytes_max}: "
            "write what is large to a file in output/"
        )
    partial = description.result.with_name(description.result.name + ".partial")
    partial.write_bytes(text)
    partial.replace(description.result)


def main(argv: list[str]) -> int:
    """Run the task that the file `argv[1]` describes, and return the exit code."""
    try:
        _call(read_description(Path(argv[1])))
    except TaskRefused as refused:
        print(f"task refused: {refused}", file=sys.stderr)  # noqa: T201  (the log is this program's voice)
        return EXIT_REFUSED
    except Exception:  # noqa: BLE001  (whatever a task raises is its failure, and goes to its log)
        traceback.print_exc()
        return EXIT_FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
