"""Labels of moments, placed on a line without overlapping: each near its moment, moved aside, or grouped. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Place", "place"]

_FILL = 0.9


@dataclass(frozen=True, slots=True)
class Place:
    """A label of the moments `first` to `last` (by their index): its middle, its width, in per cent of the line."""

    first: int
    last: int
    middle: float
    width: float


def place(moments: Sequence[float], labels: Sequence[int], line_px: float) -> list[Place]:
    """Place labels of moments (per cent, ascending) on a line of `line_px`, where all fit; else group the nearest.

    `labels` are the numbers that stand in them: a group's label is as wide as that of its first and last.
    """
    groups = _groups(moments, labels, line_px)
    widths = [100 * _width_px(labels[first], labels[last]) / line_px for first, last in groups]
    wanted = [(moments[first] + moments[last]) / 2 for first, last in groups]
    middles = _spread(wanted, widths)
    return [
        Place(*group, middle, width) for group, middle, width in zip(groups, middles, widths, strict=True)
    ]


def _width_px(first: int, last: int) -> float:
    chars = len(str(first)) if first == last else len(f"{first}-{last}")
    return 12 + 7 * chars


def _groups(moments: Sequence[float], labels: Sequence[int], line_px: float) -> list[tuple[int, int]]:
    """Split the longest group at its widest gap, as long as there is room."""
    groups = [(0, len(moments) - 1)] if moments else []
    while len(groups) < len(moments):
        longest = max(
            range(len(groups)), key=lambda at: (_extent(moments, *groups[at]), groups[at][1] - groups[at][0])
        )
        first, last = groups[longest]
        start = _widest_gap(moments, first, last)
        split = [*groups[:longest], (first, start - 1), (start, last), *groups[longest + 1 :]]
        if _room_px(split, labels) > line_px * _FILL:
            break
        groups = split
    return groups


def _extent(moments: Sequence[float], first: int, last: int) -> float:
    return moments[last] - moments[first]


def _widest_gap(moments: Sequence[float], first: int, last: int) -> int:
    """Return what stands right of the widest gap; of equal ones, of that nearest to the middle."""
    middle = (first + last + 1) / 2
    return max(
        range(first + 1, last + 1),
        key=lambda index: (round(moments[index] - moments[index - 1], 6), -abs(index - middle)),
    )


def _room_px(groups: Sequence[tuple[int, int]], labels: Sequence[int]) -> float:
    return sum(_width_px(labels[first], labels[last]) for first, last in groups)


def _spread(wanted: Sequence[float], widths: Sequence[float]) -> list[float]:
    """Return middles as near to the wanted ones as can be, in order, apart, and within the line.

    Neighbours that would overlap become one block, which stands where its members want it on the average.
    """
    blocks: list[list[float]] = []  # start, width, members
    for want, width in zip(wanted, widths, strict=True):
        blocks.append([_inside(want - width / 2, width), width, 1])
        while len(blocks) > 1 and blocks[-2][0] + blocks[-2][1] > blocks[-1][0]:
            start, size, members = blocks.pop()
            left = blocks[-1]
            together = left[1] + size
            # Where each of the two blocks alone would have the whole begin.
            begin = (left[0] * left[2] + (start - left[1]) * members) / (left[2] + members)
            blocks[-1] = [_inside(begin, together), together, left[2] + members]
    middles: list[float] = []
    at = 0
    for start, _, members in blocks:
        edge = start
        for width in widths[at : at + int(members)]:
            middles.append(round(edge + width / 2, 4))
            edge += width
        at += int(members)
    return middles


def _inside(start: float, width: float) -> float:
    return max(0.0, min(start, 100.0 - width))
