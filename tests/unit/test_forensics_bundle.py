"""A bundle gives back the case it was made of; a forged one gives an error or a story, and nothing else."""

import copy
import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsm_miner.cli.life import write_life
from fsm_miner.cli.output import Screen
from fsm_miner.cli.why import show
from fsm_miner.forensics.bundle import BYTES_MAX, BundleBroken, parse_bundle, write_bundle
from fsm_miner.forensics.case import Case, Sample
from fsm_miner.forensics.collect import bwrap_version, collect_case, folder_of
from fsm_miner.forensics.story import read_story
from fsm_miner.forensics.why import why
from journal import StreamKey
from tests.support.cli_journal import KEY, SECOND, START_NS, changed, offered, records, succeeded
from tests.support.job_histories import lives

SECRETIVE = [offered(env={"GREETING": "hello"}, args=["https://h/x?sig=Zz9"]), *succeeded()[1:]]
SAMPLES = (Sample(1, START_NS, 0.5, 12.0, 0.0), Sample(1, START_NS + SECOND, 1.0, 13.5, 0.25))


def case_of(made, **more):
    return Case(read_story(KEY, made), "/var/lib/j.db", (2,), "up\n", SAMPLES, {"python": "3.11"}, **more)


def written(case, **how):
    return write_bundle(case, exported_ns=START_NS, **how)


def again(case, **how):
    return parse_bundle(written(case, **how).data, "j.case.json")


def test_a_case_comes_back_as_it_was():
    case = case_of(records(succeeded()), node_id="node-1", notes=("no folder",))
    back = again(case)
    assert back.story == case.story
    assert (back.source, back.others, back.log_tail, back.samples) == ("j.case.json", (2,), "up\n", SAMPLES)
    assert (back.versions, back.node_id, back.exported_ns, back.notes) == (
        {"python": "3.11"}, "node-1", START_NS, ("no folder",),
    )  # fmt: skip
    assert (back.redacted, back.manifest) == (frozenset(), case.manifest)


def test_a_redacted_record_is_taken_on_trust_and_all_others_hold():
    done = written(case_of(records(SECRETIVE)))
    assert (done.redacted, done.log_redacted) == ((1,), False)
    assert b"hello" not in done.data
    assert b"Zz9" not in done.data
    back = parse_bundle(done.data, "f")
    assert back.story.sound
    assert back.redacted == {1}
    assert back.manifest["env"] == {"GREETING": "[redacted]"}
    forged = json.loads(done.data)
    forged["records"][4]["data"]["pid"] = 1
    assert parse_bundle(json.dumps(forged).encode(), "f").story.broken.seq == 5
    forged = json.loads(done.data)
    forged["records"][0]["hash"] = "00" * 32
    assert parse_bundle(json.dumps(forged).encode(), "f").story.broken.seq == 2


def test_everything_stays_if_that_is_wanted():
    case = case_of(records(SECRETIVE))
    assert again(case, redact=False).story == case.story


@pytest.mark.parametrize("redact", [True, False])
@pytest.mark.parametrize(
    "fields",
    [{"data_json": "{not json"}, {"data_json": '{"a": 1, "a": 2}'}, {"data_json": "[]"}, {"data_json": '"\udcff'},
     {"data_json": '{"status": 1e999}'}, {"data_json": "[" * 9999}, {"at_ns": -5}, {"hash": "ab"},
     {"event": "E" * 999, "version": -1}],
)  # fmt: skip
def test_damage_travels(fields, redact):
    case = case_of(changed(records(succeeded()), 4, **fields))
    back = again(case, redact=redact)
    assert back.story.broken.seq == case.story.broken.seq == 4
    assert [step.holds for step in back.story.steps] == [True] * 3 + [False] * 5
    assert set(case.story.trouble) <= set(back.story.trouble)


def test_a_log_is_redacted_and_bounded():
    case = collect_case(read_story(KEY, records(succeeded())), "here")
    assert case.log_tail is None
    assert again(case).log_tail is None
    long = Case(case.story, "here", log_tail="token=a\n" * 8192)
    done = written(long)
    assert done.log_redacted
    assert len(parse_bundle(done.data, "f").log_tail) <= 64 * 1024


def test_what_a_log_of_a_forged_bundle_says_can_not_steer_a_terminal():
    forged = json.loads(written(case_of(records(succeeded()))).data)
    forged["log_tail"] = "\x1b]0;owned\x07up\u202e"
    assert parse_bundle(json.dumps(forged).encode(), "f").log_tail == "up\ufffd"


GOOD = json.loads(written(case_of(records(succeeded()))).data)


def forged(*path, value):
    made = copy.deepcopy(GOOD)
    place = made
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return json.dumps(made).encode()


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "is not JSON"),
        (b"\xff", "is not UTF-8"),
        (b"[]", "is no JSON object"),
        (b"{}", "format: is missing"),
        (b"[" * 100_000, "is nested too deeply"),
        (b'{"format": NaN}', "NaN is no number of JSON"),
        (b'{"a": ' + b"1" * 10_000 + b"}", "is not JSON"),
        (b" " * (BYTES_MAX + 1), "is larger than a bundle may be"),
        (forged("format", value="other"), "is no bundle of fsm-miner"),
        (forged("version", value=2), "has version 2, this release reads 1"),
        (forged("records", value={}), "records: is no list"),
        (forged("records", value=[1]), "records[0]: is no JSON object"),
        (forged("records", 3, "seq", value=True), "records[3]: seq: is no whole number"),
        (forged("records", 3, "at_ns", value=2**63), "records[3]: at_ns: is not from"),
        (forged("records", 3, "prev", value="zz"), "records[3]: prev: is no hash in hex"),
        (forged("records", 3, "data", value=[]), "records[3]: data: is no JSON object"),
        (forged("records", 3, "data", value={"a": 2**70}), "records[3]: data: has an integer beyond 64 bits"),
        (forged("usage", 0, "cpu_s", value="1"), "usage[0]: cpu_s: is no number"),
        (forged("usage", 0, "cpu_s", value=-1), "usage[0]: cpu_s: is out of bounds"),
        (forged("log_tail", value="x" * 65537), "log_tail: has 65537 characters"),
        (forged("versions", "python", value=3), "versions: python: is no text"),
        (forged("redacted", "records", value=[1.5]), "redacted: records[0]: is no whole number"),
        (forged("notes", value=[1]), "notes[0]: is no text"),
        (forged("other_attempts", value=[1] * 1001), "other_attempts: has 1001 entries"),
    ],
)
def test_what_is_no_bundle_is_a_sentence(data, problem):
    with pytest.raises(BundleBroken) as caught:
        parse_bundle(data, "x.json")
    assert str(caught.value).startswith("x.json: ")
    assert problem in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
PLACES = [(name,) for name in GOOD] + [("records", 4, name) for name in GOOD["records"][4]]
PLACES += [("records", 4, "data", name) for name in GOOD["records"][4]["data"]] + [
    ("records", 3, "data", "time_limit_s")
]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(PLACES), JSON)
def test_a_forged_field_is_refused_or_told(path, value):
    try:
        case = parse_bundle(forged(*path, value=value), "x")
    except BundleBroken:
        return
    out = io.StringIO()
    for columns in (None, 80):
        write_life(Screen(out, columns), case.story)
    sentences = why(case)
    show(Screen(out), sentences)
    assert "\x1b" not in out.getvalue()
    told = {seq for one in sentences for seq in one.records}
    assert told >= {step.record.seq for step in case.story.steps}


@settings(max_examples=60, deadline=None)
@given(lives(), st.booleans())
def test_any_life_comes_back(life, redact):
    if not life.events:
        return
    key = StreamKey(life.job.job_id or "j", life.job.attempt)
    case = Case(read_story(key, records(life.events, key)), "here")
    back = again(case, redact=redact)
    assert back.story.broken is None
    assert back.story.key == key
    assert [step.record.hash for step in back.story.steps] == [step.record.hash for step in case.story.steps]
    if not back.redacted:
        assert back.story == case.story


def test_a_folder_is_named_only_for_ids_that_can_have_one(tmp_path):
    assert folder_of(tmp_path, StreamKey("j-1", 1)) == tmp_path / "j-1"
    assert folder_of(tmp_path, StreamKey("j-1", 2)) == tmp_path / "j-1@2"
    for key in (
        StreamKey("../x", 1),
        StreamKey("a/b", 1),
        StreamKey("", 1),
        StreamKey("j-1", 0),
        StreamKey("j@2", 1),
    ):
        assert folder_of(tmp_path, key) is None


def test_a_jobs_folder_gives_its_log(tmp_path):
    story = read_story(KEY, records(succeeded()))
    assert collect_case(story, "x", root=tmp_path).notes[0].endswith("so neither are log and usage")
    logs = tmp_path / "j-1" / "logs"
    logs.mkdir(parents=True)
    (logs / "exec.log").write_bytes(b"\x1b[31mred\x1b[0m\n")
    case = collect_case(story, "x", root=tmp_path, versions={"schema": "1"})
    assert (case.log_tail, case.samples, case.notes) == ("red\n", (), ())
    assert {"fsm-miner", "python", "kernel", "schema"} <= set(case.versions)


def test_the_sandboxes_version_is_asked_of_it(tmp_path):
    assert bwrap_version(str(tmp_path)) is None
    (tmp_path / "bwrap").write_text("#!/bin/sh\necho bubblewrap 0.8.0\n")
    (tmp_path / "bwrap").chmod(0o700)
    assert bwrap_version(str(tmp_path)) == "0.8.0"
