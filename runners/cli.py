"""The CLI runner's part of a run: the argument vector and the environment of an allowed command."""

from collections.abc import Mapping, Sequence

from runners.run import JobView

__all__ = ["base_env", "cli_argv"]

_PATH = "/usr/local/bin:/usr/bin:/bin"


def base_env(
    view: JobView, *, gpus: Sequence[str] = (), job_env: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the whole environment of a command: nothing of the daemon's, the job's own last.

    `gpus` are the indices or UUIDs of the assigned cards; without any, CUDA sees none. The job's variables
    cannot override which cards it sees.
    """
    return {
        "PATH": _PATH,
        "HOME": view.work,
        "TMPDIR": "/tmp",  # noqa: S108  (the sandbox's own)
        "USER": "job",
        "LOGNAME": "job",
        "LANG": "C.UTF-8",
        "JOB_INPUT": view.input,
        "JOB_OUTPUT": view.output,
        **(job_env or {}),
        "CUDA_VISIBLE_DEVICES": ",".join(gpus),
    }


def cli_argv(program: str, args: Sequence[str]) -> tuple[str, ...]:
    """Return the argument vector of an allowed command; its path comes from the allowlist, never from the job.

    Raises:
        ValueError: the path is not absolute.

    """
    if not program.startswith("/"):
        raise ValueError(f"{program!r}: not an absolute path; write command.path in the allowlist as one")
    return (program, *args)
