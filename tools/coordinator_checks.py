"""What the dev coordinator lets in: names, paths, numbers. One way to refuse: `Refusal`."""

import re
from pathlib import PurePosixPath
from typing import Any, cast

__all__ = ["JOB_ID", "Refusal", "integer", "items", "job_requirements", "mapping", "safe_path", "text"]

JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\\]")
PATH_CHARS_MAX = 1024
SEGMENT_BYTES_MAX = 255
DEPTH_MAX = 32


class Refusal(Exception):
    """A request that is answered with `status` and a sentence."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def mapping(value: Any) -> dict[str, Any]:
    """Return a decoded JSON object as it is, and an empty one for anything else."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def items(value: Any, what: str, *, count_max: int = 10000) -> list[Any]:
    """Return a decoded JSON list of at most `count_max` items; refuse anything else."""
    if not isinstance(value, list) or len(cast("list[Any]", value)) > count_max:
        raise Refusal(422, f"{what}: a list of at most {count_max} is needed")
    return cast("list[Any]", value)


def text(body: Any, name: str, *, chars_max: int = 256) -> str:
    """Take a non-empty string of at most `chars_max` characters out of a decoded JSON object."""
    value = mapping(body).get(name)
    if not isinstance(value, str) or not value or len(value) > chars_max:
        raise Refusal(422, f"{name}: a string of 1 to {chars_max} characters is needed")
    return value


def integer(body: Any, name: str, default: int | None = None, *, low: int = 0, high: int = 2**31) -> int:
    """Take an integer between `low` and `high` out of a decoded JSON object."""
    value = mapping(body).get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise Refusal(422, f"{name}: an integer from {low} to {high} is needed")
    return value


def safe_path(raw: str) -> str:
    """Return `raw` when it is a relative path that stays inside its folder; refuse it otherwise."""
    segments = raw.split("/")
    good = (
        0 < len(raw) <= PATH_CHARS_MAX
        and len(segments) <= DEPTH_MAX
        and not _CONTROL.search(raw)
        and all(s not in {"", ".", ".."} and len(_bytes(s)) <= SEGMENT_BYTES_MAX for s in segments)
    )
    if not good:
        raise Refusal(422, f"{raw[:80]!r}: not a relative path that stays inside its folder")
    assert not PurePosixPath(raw).is_absolute()
    return raw


def _bytes(segment: str) -> bytes:
    try:
        return segment.encode()
    except UnicodeEncodeError as error:
        raise Refusal(422, f"{segment[:80]!r}: not text that UTF-8 can hold") from error


def job_requirements(manifest: dict[str, Any]) -> tuple[bool, int, list[str]]:
    """Return what the filters look at: needs a GPU, with how many MiB, on a node with which tags."""
    needs = manifest.get("requirements", {})
    if not isinstance(needs, dict):
        raise Refusal(422, "requirements: an object is needed")
    tags = mapping(needs).get("tags", [])
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in cast("list[Any]", tags)):
        raise Refusal(422, "requirements.tags: a list of strings is needed")
    return mapping(needs).get("gpu") is True, integer(needs, "vram_mb", 0), cast("list[str]", tags)
