"""Why a job stays in the queue: what each node that has registered lacks for it, by its own description. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ["why_no_node"]

_NODES_SHOWN = 3


def why_no_node(manifest: Mapping[str, Any], nodes: Sequence[Mapping[str, Any]]) -> str | None:
    """Say why no node will take the job, given `nodes` of `GET /admin/nodes`; None if one may.

    A node is not held to what its description leaves out.
    """
    if not nodes:
        return "no node has registered"
    reasons: list[str] = []
    for node in nodes:
        lack = _lack(manifest, node["descriptor"] or {})
        if lack is None:
            return None
        reasons.append(f"{node['node_id']} {lack}")
    more = len(reasons) - _NODES_SHOWN
    return "no node fits: " + "; ".join([*reasons[:_NODES_SHOWN], *([f"{more} more"] if more > 0 else [])])


def _lack(manifest: Mapping[str, Any], descriptor: Mapping[str, Any]) -> str | None:
    wants: Mapping[str, Any] = manifest.get("requirements") or {}
    runner, runners, cards = manifest.get("runner"), descriptor.get("runners"), descriptor.get("gpu")
    if runners is not None and runner not in runners:
        return f"runs no {runner} jobs"
    vram_mb: int = wants.get("vram_mb") or 0
    if cards is not None and (wants.get("gpu") or vram_mb):
        if not cards:
            return "has no GPU"
        largest = max(card.get("vram_mb", 0) for card in cards)
        if largest < vram_mb:
            return f"has no GPU with {vram_mb} MiB (the largest has {largest})"
    return _missing(wants.get("tags") or (), descriptor.get("tags"))


def _missing(wanted: Iterable[str], tags: Iterable[str] | None) -> str | None:
    missing = [] if tags is None else sorted({*wanted} - {*tags})
    return f"lacks the tag {missing[0]}" if missing else None
