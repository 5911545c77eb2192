"""The allowlist: the commands this node runs for others, and nothing else (specification, sections 9 and 15).

    entries (files, folders, globs) ── load ──► Loaded.allowlist ── judge ──► Allowed | Denied

`Allowlist` is immutable: a judgement never sees half of a change. `load` reads the files again and parses
those that have changed; a file that no longer parses keeps the rule it last gave (see `fsm_miner.reload`).
"""

import difflib
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from runners.allowlist_file import FILE_BYTES_MAX, parse
from runners.allowlist_folder import FileGone, FileUnreadable, expand, read_bounded
from runners.allowlist_rule import Rule, shown

__all__ = ["Allowed", "Allowlist", "Denied", "Loaded", "Rule", "Source", "load"]

_NAMES_SHOWN_MAX = 20


@dataclass(frozen=True, slots=True)
class Allowed:
    """The command may run with these arguments, within the rule's limits."""

    rule: Rule


@dataclass(frozen=True, slots=True)
class Denied:
    """The command may not run (E_DENY); `reason` is for the one who wrote the job."""

    reason: str


@dataclass(frozen=True, slots=True)
class Allowlist:
    """An immutable set of rules. No two claim the same name or path (`load` sees to it)."""

    rules: tuple[Rule, ...] = ()
    _by_key: Mapping[str, Rule] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_key: dict[str, Rule] = {}
        for rule in self.rules:
            for key in (rule.name, rule.path):
                assert key not in by_key, f"two rules for {key}: {by_key[key].source} and {rule.source}"
                by_key[key] = rule
        object.__setattr__(self, "_by_key", MappingProxyType(by_key))

    def find(self, command: str) -> Rule | None:
        """Return the rule for a command's name or its exact absolute path."""
        return self._by_key.get(command)

    def judge(self, command: str, args: Sequence[str]) -> Allowed | Denied:
        """Decide whether a job may run `command` with `args`; both are taken as hostile."""
        rule = self.find(command)
        if rule is None:
            return Denied(self._unknown(command))
        refusal = rule.refuse_args(args)
        return Allowed(rule) if refusal is None else Denied(refusal)

    def _unknown(self, command: str) -> str:
        names = sorted(rule.name for rule in self.rules)
        near = difflib.get_close_matches(command[:80], names, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        listed = ", ".join(names[:_NAMES_SHOWN_MAX]) + (", ..." if len(names) > _NAMES_SHOWN_MAX else "")
        return f"command: {shown(command)} is not allowed on this node{hint} (allowed: {listed or 'none'})"


@dataclass(frozen=True, slots=True)
class Source:
    """One file as it was read.

    `digest` is the lower-case hex SHA-256 of its bytes, empty if they could not be read. `problems` say what
    is wrong with it; then `rule` is the one it gave when it last was in order, or None.
    """

    path: str
    digest: str
    rule: Rule | None
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the entries give now. `problems` holds those of the sources too."""

    allowlist: Allowlist
    problems: tuple[str, ...]
    sources: tuple[Source, ...]


def load(entries: Sequence[str], before: Loaded | None = None) -> Loaded:
    """Read the allowlist files that `entries` name. Never raises for what stands in a file or is missing.

    Args:
        entries: each a file, a folder (all `*.yaml` and `*.yml` directly in it, but hidden ones) or a glob.
            A file that is missing is a problem; an empty folder, or a glob that matches nothing, is not.
        before: the last result for the same entries. A file with the same bytes is not parsed again, and one
            that is out of order now keeps the rule that it has there.

    Returns:
        The rules of all files in order. Where two files claim the same command, the first keeps it, and that
        is a problem naming both.

    """
    known = {source.path: source for source in before.sources} if before is not None else {}
    found = expand(entries, tuple(known))
    problems = list(found.problems)
    sources: list[Source] = []
    for path in found.files:
        try:
            source = _source(path, known.get(path))
        except FileGone:
            if path in found.named:
                problems.append(f"{path}: no such file; create it, or take it out of the list")
            continue
        sources.append(source)
        problems.extend(source.problems)
    rules, clashes = _without_clashes(sources)
    return Loaded(Allowlist(rules), (*problems, *clashes), tuple(sources))


def _source(path: str, known: Source | None) -> Source:
    kept = known.rule if known is not None else None
    try:
        raw = read_bounded(path, FILE_BYTES_MAX + 1)
    except FileUnreadable as error:
        return Source(path, "", kept, (str(error),))
    digest = hashlib.sha256(raw).hexdigest()
    if known is not None and known.digest == digest:
        return known
    parsed = parse(raw, path)
    return Source(path, digest, parsed) if isinstance(parsed, Rule) else Source(path, digest, kept, parsed)


def _without_clashes(sources: Sequence[Source]) -> tuple[tuple[Rule, ...], list[str]]:
    owner: dict[str, Rule] = {}
    rules: list[Rule] = []
    problems: list[str] = []
    for rule in (source.rule for source in sources if source.rule is not None):
        taken = next((key for key in (rule.name, rule.path) if key in owner), None)
        if taken is not None:
            problems.append(
                f"{rule.source}: {taken} is already defined by {owner[taken].source}, which stays in force;"
                " remove one of the two"
            )
            continue
        rules.append(rule)
        owner[rule.name] = owner[rule.path] = rule
    return tuple(rules), problems
