"""The example to copy: describe the job's input files, with a checksum of each.

    submit.py run --task example --input clip.mp4 --param algorithm=sha512 --artifact result.json --wait

Result: `{"algorithm", "files": [{"name", "bytes", "digest"}], "bytes"}`. How tasks work: docs/tasks.md.
"""

import hashlib
from pathlib import Path
from typing import Any

from tasks.support import Progress, input_folder

__all__ = ["ALGORITHMS", "run"]

ALGORITHMS = ("sha256", "sha512", "blake2b")
_CHUNK_BYTES = 1024 * 1024


def run(*, algorithm: str = "sha256") -> dict[str, Any]:
    """Return name, size and checksum of every input, by name.

    Raises:
        ValueError: `algorithm` is not one of ALGORITHMS.

    """
    # A parameter is whatever JSON the job's author wrote: check it before any work is done.
    if algorithm not in ALGORITHMS:
        raise ValueError(f"algorithm: {algorithm!r} is none of {', '.join(ALGORITHMS)}")
    paths = sorted(path for path in input_folder().iterdir() if path.is_file())
    sizes = {path: path.stat().st_size for path in paths}
    progress = Progress(sum(sizes.values()))
    files: list[dict[str, Any]] = []
    for path in paths:
        print(f"reading {path.name}")  # noqa: T201 - what a task prints is the job's log
        files.append({"name": path.name, "bytes": sizes[path], "digest": _digest(path, algorithm, progress)})
    return {"algorithm": algorithm, "files": files, "bytes": sum(sizes.values())}


def _digest(path: Path, algorithm: str, progress: Progress) -> str:
    digest = hashlib.new(algorithm)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            progress.advance(len(chunk))
    return digest.hexdigest()
