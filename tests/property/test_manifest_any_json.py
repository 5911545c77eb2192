"""Whatever a coordinator sends as a job, judging it gives a well-formed offer."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from fsm_miner.manifest import JOURNAL_BYTES_MAX, Manifest, parse_offer
from fsm_miner.manifest_models import Manifest as Model
from fsm_miner.manifest_names import (
    artifact_path_problem,
    file_name_problem,
    is_usable_id,
    name_from_url,
    url_problem,
)
from states.codes import ErrorCode

any_text = st.text(st.characters(exclude_categories=()), max_size=12)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**400, -(10**400), 2**63, 10**4000])
    | st.floats()
    | any_text
)
any_json = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(any_text, inner, max_size=4),
    max_leaves=12,
)

names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
file_names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,8}", fullmatch=True)
clean_text = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=20)
clean_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | clean_text.map(str),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(clean_text, inner, max_size=3),
    max_leaves=8,
)
artifacts = st.lists(
    st.fixed_dictionaries(
        {"path": st.lists(file_names, min_size=1, max_size=3).map("/".join)},
        optional={
            "type": st.sampled_from(["text/plain", "video/mp4", "text/plain; charset=utf-8"]),
            "max_mb": st.integers(1, 5000) | st.floats(0.001, 5000),
            "optional": st.booleans(),
        },
    ),
    max_size=3,
)
# Mostly valid, so that the deep rules are reached; any field may be replaced by anything.
plausible = st.fixed_dictionaries(
    {
        "job_id": file_names,
        "runner": st.sampled_from(["cli", "python"]),
        "command": file_names,
        "task": names,
    },
    optional={
        "attempt": st.integers(1, 1_000_000),
        "requirements": st.fixed_dictionaries(
            {}, optional={"gpu": st.booleans(), "vram_mb": st.integers(0, 99)}
        ),
        "timeout_s": st.integers(1, 9999) | st.floats(0.1, 9999),
        "input": st.fixed_dictionaries(
            {},
            optional={
                "urls": st.lists(file_names.map("https://h.example/{}".format), max_size=3),
                "inline": st.dictionaries(file_names, clean_text, max_size=3),
            },
        ),
        "args": st.lists(clean_text, max_size=4),
        "env": st.dictionaries(names.map("X_{}".format), clean_text, max_size=3),
        "artifacts": artifacts,
        "queue": st.sampled_from(["latency", "throughput", None]),
        "priority": st.integers(-9, 9),
        "params": st.dictionaries(clean_text, clean_json, max_size=3),
    },
)
spoiled = st.builds(
    lambda job, field, value: {**job, field: value},
    plausible,
    st.sampled_from(sorted(Model.model_fields)),
    any_json,
)


def assert_well_formed(offer):
    assert (offer.manifest is None) != (offer.problem is None)
    assert offer.job_id is None or is_usable_id(offer.job_id)
    assert isinstance(offer.attempt, int)
    assert 1 <= offer.attempt <= 1_000_000
    text = json.dumps(offer.journal_form, allow_nan=False)
    assert len(text) <= JOURNAL_BYTES_MAX
    text.encode("utf-8")
    if offer.problem is not None:
        assert offer.problem.code in {ErrorCode.INVALID, ErrorCode.DENY}
        assert 0 < len(offer.problem.message) <= 500
        offer.problem.message.encode("utf-8")
        assert not offer.secrets
    else:
        assert offer.job_id == offer.manifest.job_id
        assert all(artifact_path_problem(artifact.path) is None for artifact in offer.manifest.artifacts)
        assert all(file_name_problem(item.name) is None for item in offer.manifest.input.urls)
        assert Manifest.from_journal(json.loads(text)) == offer.manifest


@given(any_json)
def test_any_json_gives_a_well_formed_offer(raw):
    assert_well_formed(parse_offer(raw))


@settings(max_examples=300)
@given(spoiled)
def test_one_bad_field_gives_a_well_formed_offer(raw):
    assert_well_formed(parse_offer(raw))


@settings(max_examples=300)
@given(plausible)
def test_a_plausible_job_survives_the_journal(raw):
    assert_well_formed(parse_offer(raw))


@given(
    plausible | spoiled,
    st.dictionaries(
        names.map("S_{}".format), st.integers(10**15, 10**16).map("s3cr3t-{}".format), min_size=1, max_size=4
    ),
    any_text,
)
def test_no_secret_reaches_the_journal_a_message_or_a_repr(job, secrets, spoiling):
    for given_secrets in (secrets, {**secrets, spoiling: "s3cr3t-x"}, {**secrets, "S": ["s3cr3t-y"]}):
        offer = parse_offer({**job, "secrets": given_secrets})

        assert_well_formed(offer)
        assert "s3cr3t" not in json.dumps(offer.journal_form)
        assert "s3cr3t" not in repr(offer)
        if offer.manifest is not None:
            assert {name: value.get_secret_value() for name, value in offer.secrets.items()} == given_secrets
            assert set(offer.manifest.secret_names) == set(given_secrets)


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=40), st.integers(1, 256))
def test_a_name_from_any_valid_url_is_a_safe_file_name(tail, number):
    url = f"https://h.example/{tail}"
    if url_problem(url) is None:
        assert file_name_problem(name_from_url(url, number)) is None


@given(any_text)
def test_a_good_path_cannot_leave_its_folder(path):
    if artifact_path_problem(path) is None:
        assert not path.startswith("/")
        assert ".." not in path.split("/")
        assert "\0" not in path
