"""From a job as it was offered to a job that can be worked on, or to the reason why it cannot.

What a coordinator sends is hostile: `parse_offer` takes anything at all and never raises. Secrets part
from the manifest here; the form that goes to the journal has only their names.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from pydantic import SecretStr, ValidationError
from pydantic_core import ErrorDetails

from fsm_miner.manifest_models import (
    ATTEMPT_MAX,
    ENTRIES_MAX,
    SECRET_FILES_MAX,
    TEXT_BYTES_MAX,
    Manifest,
)
from fsm_miner.manifest_names import env_denied, env_name_problem, is_usable_id, text_problem, url_needs_hash
from states.codes import ErrorCode, Failure

__all__ = ["JOURNAL_BYTES_MAX", "Manifest", "Offer", "parse_offer"]

JOURNAL_BYTES_MAX = 1024 * 1024
MESSAGE_CHARS_MAX = 500
ERRORS_SHOWN_MAX = 3

# The fields that may enter from the wire: two are ours alone, `secrets` is taken out before.
_FIELDS = frozenset(Manifest.model_fields) - {"secret_names", "secret_files"}
_JSON_TYPES: Mapping[type, str] = {
    dict: "object",
    list: "array",
    str: "string",
    bool: "boolean",
    int: "number",
    float: "number",
    type(None): "null",
}

# By pydantic's types of errors: those with a bound, which is never the job's own word, and the others.
_BOUNDS: Mapping[str, str] = {
    "literal_error": "{expected}",
    "greater_than": "greater than {gt:.0f}",
    "greater_than_equal": "at least {ge:.0f}",
    "less_than_equal": "at most {le:.0f}",
    "too_long": "no longer than {max_length}",
}
_MISTAKES: Mapping[str, str] = {
    "missing": "is missing",
    "too_short": "must not be empty",
    "tuple_type": "must be a list",
    "dict_type": "must be an object of names and values",
    "mapping_type": "must be an object of names and values",
    "model_type": "must be an object of names and values",
    "model_attributes_type": "must be an object of names and values",
    "string_type": "must be a text",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing_size": "must be a number of fewer digits",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
}


@dataclass(frozen=True, slots=True)
class Offer:
    """A job as offered. Exactly one of `manifest` and `problem` is set.

    `job_id` is None where the offer has none that can be used: then nobody can be told anything, and the
    offer is dropped. `journal_form` is JSON, at most 1 MiB, without any secret's value; of an offer that is
    not valid it holds the id, the attempt and the types of the known fields, and nothing of their content.
    """

    job_id: str | None
    attempt: int
    manifest: Manifest | None
    problem: Failure | None
    secrets: Mapping[str, SecretStr] = field(repr=False)
    journal_form: Mapping[str, Any] = field(repr=False)
    attempt_guessed: bool = False
    """Whether the offer names an attempt that is none, so that `attempt` is nobody's word."""


class _SecretsError(ValueError):
    """The `secrets` field is unusable; the message never repeats a value."""


def parse_offer(raw: Any) -> Offer:
    """Judge an offered job. Never raises, whatever `raw` is."""
    if not isinstance(raw, dict):
        return _refused(None, 1, {}, ErrorCode.INVALID, "job: is not a JSON object")
    fields = cast("dict[Any, Any]", raw)
    job_id: str | None = fields["job_id"] if is_usable_id(fields.get("job_id")) else None
    attempt = fields["attempt"] if _is_attempt(fields.get("attempt")) else 1
    try:
        secrets, files = _secrets(fields.get("secrets"))
        known = {name: value for name, value in fields.items() if name in _FIELDS}
        manifest = Manifest.model_validate({**known, "secret_names": tuple(secrets), "secret_files": files})
    except ValidationError as exc:
        return _refused(job_id, attempt, fields, ErrorCode.INVALID, _sentence(exc))
    except _SecretsError as exc:
        return _refused(job_id, attempt, fields, ErrorCode.INVALID, f"secrets: {exc}")
    denial = _denial(manifest)
    if denial is not None:
        return _refused(job_id, attempt, fields, ErrorCode.DENY, denial)
    form = manifest.model_dump(mode="json")
    if len(json.dumps(form)) > JOURNAL_BYTES_MAX:
        message = f"job: the manifest is larger than {JOURNAL_BYTES_MAX} bytes; give large inputs as urls"
        return _refused(job_id, attempt, fields, ErrorCode.INVALID, message)
    return Offer(manifest.job_id, manifest.attempt, manifest, None, secrets, form)


def _is_attempt(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= ATTEMPT_MAX


def _refused(
    job_id: str | None, attempt: int, fields: Mapping[Any, Any], code: ErrorCode, message: str
) -> Offer:
    types = {name: _json_type(fields[name]) for name in sorted(_FIELDS) if name in fields}
    form = {"job_id": job_id, "attempt": attempt, "invalid": True, "fields": types}
    named = fields.get("attempt")
    guessed = named is not None and not _is_attempt(named)
    return Offer(job_id, attempt, None, Failure(code, message), {}, form, guessed)


def _json_type(value: object) -> str:
    return next((name for kind, name in _JSON_TYPES.items() if isinstance(value, kind)), "other")


def _secrets(raw: Any) -> tuple[dict[str, SecretStr], tuple[str, ...]]:
    """Return the secrets by name, and the names of those that the job gets as files."""
    if raw is None:
        return {}, ()
    if not isinstance(raw, dict):
        raise _SecretsError("is not an object of names and texts")
    entries = cast("dict[Any, Any]", raw)
    if len(entries) > ENTRIES_MAX:
        raise _SecretsError(f"has more than {ENTRIES_MAX} entries")
    secrets: dict[str, SecretStr] = {}
    files: list[str] = []
    size = 0
    for name, entry in entries.items():
        value = entry
        if not isinstance(name, str) or env_name_problem(name) is not None:
            raise _SecretsError("has a name that is not letters, digits and underscores, at most 128")
        if isinstance(entry, dict):
            value, as_file = _secret_entry(name, cast("dict[Any, Any]", entry))
            files += [name] if as_file else []
        if not isinstance(value, str):
            raise _SecretsError(f"{name} is not a text")
        problem = text_problem(value)
        if problem is not None:
            raise _SecretsError(f"{name} {problem}")
        size += len(name) + len(value.encode("utf-8")) + 2
        secrets[name] = SecretStr(value)
    if size > TEXT_BYTES_MAX:
        raise _SecretsError(f"holds more than {TEXT_BYTES_MAX} bytes")
    if len(files) > SECRET_FILES_MAX:
        raise _SecretsError(f"has more than {SECRET_FILES_MAX} files")
    return secrets, tuple(files)


def _secret_entry(name: str, entry: Mapping[Any, Any]) -> tuple[Any, bool]:
    """Read `{"value": text, "file": true}`."""
    as_file = entry.get("file", False)
    if not isinstance(as_file, bool) or not isinstance(entry.get("value"), str):
        raise _SecretsError(f'{name} is neither a text nor {{"value": text, "file": true or false}}')
    return entry["value"], as_file


def _denial(manifest: Manifest) -> str | None:
    for where, names in (("env", tuple(manifest.env)), ("secrets", manifest.secret_names)):
        for name in names:
            if env_denied(name):
                return f"{where}: {name} may not be set by a job, because it changes what runs or where"
    for index, item in enumerate(manifest.input.urls):
        if item.sha256 is None and url_needs_hash(item.url):
            return f"input.urls[{index}]: plain http is taken only with a sha256; use https or give the hash"
    return None


def _sentence(error: ValidationError) -> str:
    """Name the fields and what is wrong with each, without repeating any value."""
    # The inputs stay out: they may be secret, huge, or no Unicode.
    errors = error.errors(include_url=False, include_input=False)
    shown = [f"{_place(item['loc'])}: {_plain(item)}" for item in errors[:ERRORS_SHOWN_MAX]]
    if len(errors) > ERRORS_SHOWN_MAX:
        shown.append(f"and {len(errors) - ERRORS_SHOWN_MAX} more")
    return "; ".join(shown)[:MESSAGE_CHARS_MAX]


def _place(loc: tuple[int | str, ...]) -> str:
    """Write a pydantic location as `artifacts[0].path`; keys that are the job's own words are quoted."""
    place = ""
    for part in loc:
        if isinstance(part, int):
            place += f"[{part}]"
        elif part.isidentifier() and part.isascii() and len(part) <= 64:
            place += f".{part}" if place else part
        elif part != "[key]":  # pydantic's mark for "the key itself is wrong"
            place += f"[{part[:64]!a}]"
    return place or "job"


def _plain(item: ErrorDetails) -> str:
    """Say in words that need no knowledge of Python what is wrong."""
    kind, bounds = item["type"], item.get("ctx", {})
    if kind == "value_error":
        return item["msg"].removeprefix("Value error, ")
    if kind in _BOUNDS:
        return f"must be {_BOUNDS[kind].format(**bounds)}"
    return _MISTAKES.get(kind, "is not what it should be")
