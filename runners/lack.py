"""What a machine can't do for its jobs."""

from dataclasses import dataclass

__all__ = ["Lack"]


@dataclass(frozen=True, slots=True)
class Lack:
    """Something that is not to be had: a tag for the descriptor, and a sentence for the operator."""

    tag: str
    meaning: str
