"""A case in one file: written on the node, redacted, and read on any machine.

A bundle is one JSON object (UTF-8), at most 64 MiB:

    format, version         "fsm-miner-case", 1
    job_id, attempt         whose records these are; `other_attempts` were in the same journal
    node_id, exported_ns    where it was made, and when (UTC)
    source, versions        the journal's file, and the versions of the programs there
    redacted                `records`: the numbers of those whose data was changed; `log`: whether the log was
    chain, trouble          what the exporter saw: `holds`, `first_bad_seq`, `reason`; and what else is wrong
    records                 each with all its fields. `data` is the event's object; where a damaged record holds no
                            such thing, `data` is null and `data_json` is its text
    manifest                the same as in the first record, for people
    log_tail, usage         the log's end, at most 64 KiB; samples of what the runs used; null if they are gone
    notes                   what could not be collected, and why

Whoever reads one believes nothing: sizes, types and depth are checked, and every hash that can be computed is.
A redacted record keeps its hash, which is then taken on trust; the records after it still hold it fast.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from fsm_miner.forensics.bundle_fields import BundleBroken, Fields
from fsm_miner.forensics.case import LOG_TAIL_BYTES_MAX, Case, Sample
from fsm_miner.forensics.redaction import REDACTED, redact_data, redact_text
from fsm_miner.forensics.story import Story, read_story, record_fields
from fsm_miner.log_tail import readable
from fsm_miner.manifest_json import json_problem
from journal.port import ChainBroken, Record, StreamKey
from journal.record import canonical_json

__all__ = ["BYTES_MAX", "FORMAT", "RECORDS_MAX", "BundleBroken", "Written", "parse_bundle", "write_bundle"]

FORMAT = "fsm-miner-case"
VERSION = 1
BYTES_MAX = 64 * 1024 * 1024
RECORDS_MAX = 100_000
_SAMPLES_MAX = 100_000
_OTHERS_MAX = 1000
_DEPTH_MAX = 100
_INT_MIN = -(2**63)
_TEXTS_MAX = 64
_TEXT_MAX = 4000


@dataclass(frozen=True, slots=True)
class Written:
    """A bundle's bytes; the numbers of the records whose data was changed, and whether the log was."""

    data: bytes
    redacted: tuple[int, ...]
    log_redacted: bool


def write_bundle(case: Case, *, exported_ns: int, redact: bool = True) -> Written:
    """Return the bundle of a case.

    Raises:
        BundleBroken: it would be larger than a bundle may be.

    """
    steps = case.story.steps
    if len(steps) > RECORDS_MAX:
        raise BundleBroken(f"{case.story.key} has {len(steps)} records; a bundle holds at most {RECORDS_MAX}")
    records = [_record_out(step.record, redact=redact) for step in steps]
    changed = {record.pop("seq_changed") for record in records if "seq_changed" in record}
    log_tail = case.log_tail
    if log_tail is not None and redact:
        log_tail = redact_text(log_tail)[-LOG_TAIL_BYTES_MAX:]  # a marker may be longer than what it replaces
    redacted = tuple(sorted(changed | case.redacted))
    broken = case.story.broken
    bundle = {
        "format": FORMAT,
        "version": VERSION,
        "job_id": case.story.key.job_id,
        "attempt": case.story.key.attempt,
        "other_attempts": list(case.others[-_OTHERS_MAX:]),
        "node_id": case.node_id,
        "exported_ns": exported_ns,
        "source": case.source,
        "versions": dict(case.versions),
        "redacted": {"records": list(redacted), "log": log_tail != case.log_tail},
        "chain": {
            "holds": broken is None,
            "first_bad_seq": None if broken is None else broken.seq,
            "reason": None if broken is None else broken.reason,
        },
        "trouble": _cut(case.story.trouble),
        "notes": _cut(case.notes),
        "manifest": next(_manifests(records), None),
        "records": records,
        "log_tail": log_tail,
        "usage": None
        if case.samples is None
        else [asdict(sample) for sample in case.samples[-_SAMPLES_MAX:]],
    }
    data = _text(bundle).encode("ascii")
    if len(data) > BYTES_MAX:
        raise BundleBroken(
            f"{case.story.key}: a bundle of {len(data)} bytes; at most {BYTES_MAX} are allowed: "
            "copy the journal instead, `--journal` reads it"
        )
    return Written(data, redacted, log_tail != case.log_tail)


def _text(bundle: Mapping[str, Any]) -> str:
    """Write JSON with a line for each field, record and sample, so that people and diff find their way.

    ASCII: a half character of a damaged record survives, and nothing in the file can steer a terminal.
    """
    fields: list[str] = []
    for name, value in bundle.items():
        text = json.dumps(value, ensure_ascii=True)
        if name in {"records", "usage"} and value:
            text = "[\n  " + ",\n  ".join(json.dumps(item, ensure_ascii=True) for item in value) + "\n ]"
        fields.append(f" {json.dumps(name)}: {text}")
    return "{\n" + ",\n".join(fields) + "\n}\n"


def _cut(lines: tuple[str, ...]) -> list[str]:
    return [line[:_TEXT_MAX] for line in lines[:_TEXTS_MAX]]


def _record_out(record: Record, *, redact: bool) -> dict[str, Any]:
    found = record_fields(record, _data_of(record))
    if found["data"] is None:
        found["data_json"] = REDACTED if redact else record.data_json
        changed = redact
    else:
        before = found["data"]
        found["data"] = redact_data(before) if redact else before
        changed = found["data"] != before
    if changed:
        found["seq_changed"] = record.seq
    return found


def _data_of(record: Record) -> dict[str, Any] | None:
    """Return the data if writing it again gives the very text that the hash covers, else None."""
    try:
        data = record.data
        whole = type(data) is dict and json_problem(data, depth_max=_DEPTH_MAX) is None
        return data if whole and canonical_json(data) == record.data_json else None
    except (ValueError, RecursionError):
        return None


def _manifests(records: list[dict[str, Any]]) -> Iterator[Any]:
    yield from (record["data"].get("manifest") for record in records[:1] if record["data"] is not None)


def parse_bundle(data: bytes, name: str) -> Case:
    """Read a bundle. `name` is what its errors call it, and the case's source.

    Raises:
        BundleBroken: it is none; says where and why. A chain that does not hold is no error: the story tells it.

    """
    top = Fields(_decoded(data, name), name)
    if top.text("format") != FORMAT:
        raise BundleBroken(f"{name}: is no bundle of fsm-miner (`fsm-miner export JOB` makes them)")
    if (version := top.number("version", least=1)) > VERSION:
        raise BundleBroken(
            f"{name}: has version {version}, this release reads {VERSION}: use a later release"
        )
    key = StreamKey(top.text("job_id", chars_max=512), top.number("attempt"))
    redacted = frozenset(top.sub("redacted").numbers("records", RECORDS_MAX))
    records = [_record_in(one, key) for one in top.subs("records", RECORDS_MAX)]
    story = _with_claims(read_story(key, records, redacted=redacted), top)
    log_tail = top.text_or_none("log_tail", chars_max=LOG_TAIL_BYTES_MAX)
    return Case(
        story,
        name,
        top.numbers("other_attempts", _OTHERS_MAX),
        None if log_tail is None else readable(log_tail.encode("utf-8", "replace")),
        _samples_in(top),
        top.sub("versions").all_texts(_TEXTS_MAX, 200),
        redacted & {record.seq for record in records},
        top.text_or_none("node_id", chars_max=200),
        top.number("exported_ns"),
        top.texts("notes", _TEXTS_MAX, _TEXT_MAX),
    )


def _decoded(data: bytes, name: str) -> Any:
    if len(data) > BYTES_MAX:
        raise BundleBroken(f"{name}: is larger than a bundle may be ({BYTES_MAX} bytes)")
    try:
        return json.loads(data.decode("utf-8"), parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise BundleBroken(f"{name}: is not UTF-8: {error.reason} at byte {error.start}") from None
    except RecursionError:
        raise BundleBroken(f"{name}: is nested too deeply") from None
    except ValueError as error:
        raise BundleBroken(f"{name}: is not JSON: {error}") from None


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def _record_in(one: Fields, key: StreamKey) -> Record:
    """Read a record. A damaged one may hold anything, as long as it is of the right type."""

    def text(name: str) -> str:
        return one.text(name, chars_max=BYTES_MAX)

    return Record(
        key.job_id,
        key.attempt,
        one.number("seq", least=_INT_MIN),
        one.number("at_ns", least=_INT_MIN),
        text("boot_id"),
        text("event"),
        one.number("version", least=_INT_MIN),
        text("source"),
        text("dest"),
        text("data_json") if one.raw("data") is None else _data_in(one),
        one.digest("prev"),
        one.digest("hash"),
    )


def _data_in(one: Fields) -> str:
    data = one.sub("data").values
    problem = json_problem(data, depth_max=_DEPTH_MAX)
    if problem is not None:
        raise one.error("data", problem)
    try:
        return canonical_json(data)
    except ValueError as error:
        raise one.error("data", str(error)) from None


def _with_claims(story: Story, top: Fields) -> Story:
    """Add what the exporter saw in the records as they were: of redacted ones it can't be seen any more."""
    chain = top.sub("chain")
    seq = chain.number_or_none("first_bad_seq")
    broken = story.broken
    if seq is not None and (broken is None or seq < broken.seq):
        reason = chain.text_or_none("reason", chars_max=_TEXT_MAX) or "no reason is given"
        broken = ChainBroken(story.key, seq, f"{reason} (so says the bundle)")
    claims = top.texts("trouble", _TEXTS_MAX, _TEXT_MAX)
    trouble = (*story.trouble, *(line for line in claims if line not in story.trouble))
    return story.but(broken, trouble)


def _samples_in(top: Fields) -> tuple[Sample, ...] | None:
    if top.raw("usage") is None:
        return None
    return tuple(
        Sample(
            one.number("run", least=1),
            one.number("at_ns"),
            one.real("cpu_s"),
            one.real("memory_mb"),
            one.real("disk_mb"),
        )
        for one in top.subs("usage", _SAMPLES_MAX)
    )
