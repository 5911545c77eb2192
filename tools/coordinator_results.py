"""Checking a result against its metadata, and storing its files below `results/<job>/<attempt>/`."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coordinator_checks import Refusal, integer, items, safe_path, text
from coordinator_multipart import LOG_NAME, Part, ResultForm
from coordinator_queue import Artifact
from coordinator_uploads import Uploads, link_or_replace, sha256_file

__all__ = ["Checked", "check", "publish"]

ARTIFACTS_MAX = 1000


@dataclass(frozen=True, slots=True)
class Checked:
    """What a result holds, every size and hash compared: artifacts, and for each file where it comes from."""

    artifacts: tuple[Artifact, ...]
    parts: tuple[tuple[str, Part], ...]
    uploads: tuple[tuple[str, Path], ...]


async def check(form: ResultForm, metadata: Any, node_id: str, uploads: Uploads) -> Checked:
    """Compare every artifact with the metadata. Raises Refusal (422) that names the first difference."""
    files = form.files()
    log = files.pop(LOG_NAME, None)
    parts = [] if log is None else [(LOG_NAME, log)]
    linked: list[tuple[str, Path]] = []
    artifacts: list[Artifact] = []
    for declared in _declared(metadata):
        artifact = Artifact(
            safe_path(text(declared, "path", chars_max=1024)),
            text(declared, "type"),
            integer(declared, "size", high=2**50),
            text(declared, "sha256", chars_max=64).lower(),
        )
        name = f"artifacts/{artifact.path}"
        url = declared.get("upload")
        if url is None:
            # a quote in a file name is escaped by the sender (HTML 5, form-data)
            part = files.pop(name, None) or files.pop(name.replace('"', "%22"), None)
            if part is None or part.name != "artifact":
                raise Refusal(
                    422, f"{artifact.path}: declared, but there is no part `artifact` named {name!r}"
                )
            size, sha256 = part.size, part.digest.hexdigest()
            parts.append((name, part))
        else:
            path, size = uploads.claim(
                text(declared, "upload", chars_max=2048), node_id, metadata["job_id"], artifact.path
            )
            sha256 = await asyncio.to_thread(sha256_file, path)
            linked.append((name, path))
        if (size, sha256) != (artifact.size, artifact.sha256):
            raise Refusal(
                422,
                f"{artifact.path}: metadata says {artifact.size} bytes, sha256 {artifact.sha256}; "
                f"{size} bytes came, sha256 {sha256}",
            )
        artifacts.append(artifact)
    if files:
        raise Refusal(
            422, f"parts that the metadata does not name: {', '.join(sorted(map(repr, files)))[:500]}"
        )
    if len({artifact.path for artifact in artifacts}) != len(artifacts):
        raise Refusal(422, "metadata.artifacts: a path is there twice")
    return Checked(tuple(artifacts), tuple(parts), tuple(linked))


def publish(checked: Checked, folder: Path) -> None:
    """Move the files to where they stay. May be repeated after a crash: the same names, replaced whole."""
    try:
        for name, part in checked.parts:
            assert part.path is not None, "a file part always has a staged file"
            part.path.replace(_ready(folder / name))
        for name, path in checked.uploads:
            link_or_replace(path, _ready(folder / name))
    except (NotADirectoryError, FileExistsError, IsADirectoryError) as error:
        raise Refusal(
            422, f"metadata.artifacts: one path is a folder of another: {error.filename}"
        ) from error


def _ready(target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def _declared(metadata: Any) -> list[dict[str, Any]]:
    declared = items(metadata.get("artifacts", []), "metadata.artifacts", count_max=ARTIFACTS_MAX)
    if not all(isinstance(item, dict) for item in declared):
        raise Refusal(422, "metadata.artifacts: objects are needed")
    return declared
