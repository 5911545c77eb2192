"""A stream's records become a story, a timeline, a row: also when they are not what was written."""

import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsm_miner.cli.job_rows import cells, job_row
from fsm_miner.cli.reading import Listed, Unreadable
from fsm_miner.cli.timeline import chain_cells, due_text, ending_cells, fields_of, headers, timeline
from fsm_miner.forensics.story import due_json, job_json, read_story, record_json
from fsm_miner.forensics.telling import tell
from journal import StreamKey
from states import events as e
from states.events import EVENTS
from states.job import NEW
from states.table import State
from tests.support.cli_journal import SECOND, START_NS, changed, denied, offered, records, running, succeeded

KEY = StreamKey("j-1", 1)


def words(parts):
    return "".join(part if isinstance(part, str) else part.text for part in parts)


def table(story):
    return [[words([cell]) for cell in row] for row in timeline(story)]


def test_a_sound_story_holds_and_ends_where_the_job_did():
    story = read_story(KEY, records(succeeded()))
    assert story.sound
    assert story.job.state is State.DONE
    assert [step.job.state for step in story.steps][3:5] == [State.PREP, State.RUNNING]
    assert all(step.holds for step in story.steps)


def test_a_changed_record_is_named_and_everything_is_still_told():
    made = records(succeeded())
    story = read_story(KEY, changed(made, 4, data_json=made[3].data_json.replace("echo", "evil")))
    assert (story.broken.seq, story.trouble) == (4, ())
    assert [step.holds for step in story.steps] == [True] * 3 + [False] * 5
    assert story.job.state is State.DONE
    assert [row[-1].endswith("the first record that does not hold") for row in table(story)].index(True) == 3
    assert "does NOT hold: j-1/1: record 4" in words(chain_cells(story))


@pytest.mark.parametrize(
    "fields",
    [
        {"data_json": "{not json"},
        {"data_json": "3"},
        {"data_json": '{"no": "such field"}'},
        {"event": "NeverHeardOf"},
        {"event": "Delivered", "data_json": '{"status": 200}'},
        {"version": 99},
        {"data_json": "\udcff"},
    ],
)
def test_a_record_that_makes_no_sense_stops_the_job_and_not_the_timeline(fields):
    story = read_story(KEY, changed(records(succeeded()), 3, **fields))
    assert story.broken.seq == 3
    assert "record 3" in story.trouble[0]
    assert story.job.state is State.ACKED
    assert [step.job is None for step in story.steps] == [False] * 2 + [True] * 6
    assert len(table(story)) == 8


def test_rows_that_can_not_be_read_end_the_story_with_a_word():
    def cut():
        yield from records(succeeded())[:4]
        raise Unreadable("disk image is malformed")

    story = read_story(KEY, cut())
    assert len(story.steps) == 4
    assert story.trouble == ("disk image is malformed",)
    assert not story.sound


def test_a_missing_record_is_named():
    made = records(succeeded())
    story = read_story(KEY, made[:2] + made[3:])
    assert str(story.broken) == "j-1/1: record 4: follows record 2, so record 3 is missing"


def test_the_timeline_says_when_what_and_how_long_after():
    assert headers(read_story(KEY, records(succeeded()))) == (
        ">#", "=2026-01-01 UTC", ">after", "=event", "=state", "what mattered",
    )  # fmt: skip
    rows = table(read_story(KEY, records(succeeded())))
    assert rows[0] == ["1", "00:00:00.000", "", "Offered", "IDLE → PULLING", "echo hello world"]
    assert rows[1] == [
        "2",
        "00:00:01.000",
        "+1.000s",
        "Acked",
        "PULLING → ACKED",
        "ours, with a lease of 30.0s",
    ]
    assert rows[3][4:] == ["PREP", "run 1: /usr/bin/echo, at most 1m00s, 256 MiB of memory, 10 MiB of output"]
    assert rows[5][5] == "exit code 0 at 2026-01-01 00:00:05.000; used 1.500s of CPU time, 9.0 MiB of memory"
    assert rows[6][5] == "success; 1 artifact: output.txt (12 B)"


def test_the_timeline_names_a_new_day_and_a_reboot():
    made = records(succeeded())
    made = changed(made, 3, at_ns=START_NS + 90_000 * SECOND, boot_id="boot-2")
    rows = table(read_story(KEY, made))
    assert rows[2][1:3] == ["2026-01-02 01:00:00.000", "+1d00h"]
    assert rows[2][5].startswith("after a reboot: ")


def test_no_records_no_timeline():
    story = read_story(KEY, [])
    assert table(story) == []
    assert words(chain_cells(story)).endswith("no record could be read")
    assert len(headers(story)) == 6


@pytest.mark.parametrize(
    ("events", "ending"),
    [
        (succeeded(), "outcome   success; 1 artifact: output.txt (12 B)"),
        (denied(), 'outcome   E_DENY: command: "rm" is not allowed on this node'),
        (succeeded()[:4], "outcome   none yet"),
        (
            [offered(), e.Superseded("gone", 404)],
            "outcome   given up: gone",
        ),
    ],
)
def test_how_it_ended(events, ending):
    assert words(ending_cells(read_story(KEY, records(events)).job)) == ending


def test_what_is_due_in_words():
    story = read_story(KEY, records(succeeded()))
    assert [due_text(step.job) for step in story.steps] == [
        "AskAck",
        "AwaitSlot",
        "Prepare (run 1)",
        "Launch (run 1, only_look False)",
        "Watch (run 1)",
        "Collect (run 1)",
        "Deliver (number 0)",
        "nothing",
    ]
    wait = [*succeeded()[:5], e.RetryScheduled("PREP", "E_LOST", "lost", 2.0, START_NS)]
    job = read_story(KEY, records(wait)).job
    assert due_text(job) == "Wait (due_ns 2026-01-01 00:00:00.000, delay_s 2.0)"
    assert due_json(job) == {"instruction": "Wait", "due_ns": START_NS, "delay_s": 2.0}


def test_only_fields_that_are_set_are_shown():
    story = read_story(KEY, records(succeeded()))
    shown = dict(fields_of(story.steps[1].job))
    assert list(shown) == [
        "job_id",
        "attempt",
        "state",
        "seq",
        "manifest",
        "manifest_sha256",
        "offered_ns",
        "lease_s",
    ]
    assert (shown["state"], shown["seq"], shown["offered_ns"]) == (
        "ACKED",
        "2",
        "2026-01-01 00:00:00.000 UTC",
    )
    assert json.loads(dict(fields_of(story.job))["ended"])["exit_code"] == 0
    assert list(dict(fields_of(NEW))) == ["job_id", "attempt", "state", "seq"]


def test_everything_goes_into_json():
    story = read_story(KEY, records(succeeded()))
    data = json.loads(json.dumps([job_json(story.job), *map(record_json, story.steps)]))
    assert data[0]["artifacts"][0]["path"] == "output.txt"
    assert data[0]["intent"]["program"] == "/usr/bin/echo"
    assert "story" not in data[0]
    assert [record["event"] for record in data[1:]][:2] == ["Offered", "Acked"]
    broken = changed(records(succeeded()), 2, data_json="{")
    assert record_json(read_story(KEY, broken).steps[1])["data"] == "{"


SAMPLES = {
    "Offered": offered(),
    "Acked": e.Acked(None),
    "PrepStarted": e.PrepStarted(("GPU-1",)),
    "LaunchIntended": running()[0],
    "Launched": running()[1],
    "Reattached": e.Reattached(1, 77),
    "CancelRequested": e.CancelRequested("operator"),
    "AbandonRequested": e.AbandonRequested("lease ran out"),
    "LimitExceeded": e.LimitExceeded("E_OOM", "over 256 MiB"),
    "Ended": e.Ended("exited", 3, None, START_NS, {}),
    "OutcomeKnown": e.OutcomeKnown("E_EXIT", "exit code 3", permanent=True),
    "OutcomeRevised": e.OutcomeRevised("E_UPLOAD", "413"),
    "RetryScheduled": e.RetryScheduled("UPLOADING", None, "HTTP 503", 5.0, START_NS),
    "RetryDue": e.RetryDue(),
    "Delivered": e.Delivered(200),
    "Superseded": e.Superseded("gone", 410),
}
TOLD = {
    "Offered": "echo hello world",
    "Acked": "ours",
    "PrepStarted": "run 1 gets a slot on GPU-1",
    "LaunchIntended": "run 1: /usr/bin/echo, at most 1m00s, 256 MiB of memory, 10 MiB of output",
    "Launched": "run 1 started as process 4242 (sandbox-bubblewrap)",
    "Reattached": "run 1 was found alive by a new daemon (process 77)",
    "CancelRequested": "the operator wants it stopped",
    "AbandonRequested": "another node has it now: lease ran out",
    "LimitExceeded": "E_OOM: over 256 MiB",
    "Ended": "exit code 3 at 2026-01-01 00:00:00.000",
    "OutcomeKnown": "E_EXIT: exit code 3 (trying again can't help)",
    "OutcomeRevised": "no success after all: E_UPLOAD: 413",
    "RetryScheduled": "deliver again in 5.000s, at 2026-01-01 00:00:00.000: HTTP 503",
    "RetryDue": "the wait is over",
    "Delivered": "the coordinator has the outcome (HTTP 200)",
    "Superseded": "given up: gone (HTTP 410)",
}


@pytest.mark.parametrize("name", EVENTS)
def test_every_event_is_told(name):
    assert tell(SAMPLES[name]) == TOLD[name]


@pytest.mark.parametrize(
    ("event", "told"),
    [
        (offered(runner="python", task="example"), "python task example"),
        (offered(requirements={"gpu": True}), "echo hello world (wants a GPU)"),
        (offered(args=list("abcdefgh")), "echo a b c d e …"),
        (dataclasses.replace(offered(), problem_code="E_INVALID", problem="no command"),
         "a manifest that can't be run: E_INVALID: no command"),
        (e.Ended("signalled", None, 9, START_NS, {}), "signal 9 at 2026-01-01 00:00:00.000"),
        (e.Ended("timed_out", None, None, START_NS, {}), "timed out at 2026-01-01 00:00:00.000"),
        (e.OutcomeKnown(None, ""), "success; no artifacts"),
        (e.RetryScheduled("PREP", "E_LOST", "lost", 2.0, 0),
         "run again in 2.000s, at 1970-01-01 00:00:00.000: E_LOST: lost"),
        (e.LimitExceeded("E_OOM", "x"), "E_OOM: x"),
    ],
)  # fmt: skip
def test_events_that_are_told_in_several_ways(event, told):
    assert tell(event) == told


def test_many_artifacts_are_counted():
    many = tuple({"path": f"{n}.txt", "size": 1} for n in range(7))
    assert tell(e.OutcomeKnown(None, "", artifacts=many)).endswith("4.txt (1 B), 2 more")


def listed(events, key=KEY):
    made = records(events, key)
    return Listed(key, made[-1].dest, made[0].at_ns, made[-1].at_ns, len(made)), read_story(key, made)


@pytest.mark.parametrize(
    ("events", "row"),
    [
        (succeeded(), ["j-1", "1", "DONE", "1", "-", "1m40s", "2.000s", "1"]),
        (succeeded()[:5], ["j-1", "1", "RUNNING", "1", "-", "1m40s", "1m37s", "0"]),
        (denied("j-1"), ["j-1", "1", "FAILED", "0", "E_DENY", "1m40s", "-", "0"]),
        (
            [*succeeded()[:5], e.RetryScheduled("PREP", "E_LOST", "lost", 2.0, START_NS)],
            ["j-1", "1", "RETRY_WAIT", "1", "E_LOST", "1m40s", "-", "0"],
        ),
        ([offered(), e.Superseded("gone")], ["j-1", "1", "FAILED", "0", "superseded", "1m40s", "-", "0"]),
    ],
)
def test_a_job_as_a_row(events, row):
    assert [words([cell]) for cell in cells(job_row(*listed(events), START_NS + 100 * SECOND))] == row


def test_a_damaged_job_is_a_row_too():
    made = changed(
        records(succeeded()), 5, data_json='{"run":1,"pid":1,"started_ns":"x","started_boot_ns":1}'
    )
    row = job_row(Listed(KEY, "DONE", START_NS, START_NS, 8), read_story(KEY, made), START_NS)
    assert (row.state, row.took_s) == ("DONE", None)
    assert [words([cell]) for cell in cells(row)][4] == "damaged"


def test_an_ending_that_was_changed_into_nonsense_is_shown_all_the_same():
    made = changed(records(succeeded()), 7, data_json='{"code": null, "message": "", "artifacts": [{}]}')
    job = read_story(KEY, made).job
    assert words(ending_cells(job)) == "outcome   success; artifacts unknown"
    made = changed(records(denied()), 4, data_json='{"code": "E_DENY", "message": {}}')
    assert words(ending_cells(read_story(KEY, made).job)) == "outcome   E_DENY: {}"
    wait = records([*succeeded()[:5], e.RetryScheduled("PREP", None, "", 2.0, START_NS)])
    made = changed(
        wait, 6, data_json='{"back_to":"PREP","code":null,"reason":"","delay_s":1,"due_ns":"soon"}'
    )
    assert due_text(read_story(KEY, made).job) == "Wait (due_ns soon, delay_s 1)"


NAMES = st.sampled_from([*EVENTS, "Other"])
TEXTS = st.one_of(
    st.text(), st.sampled_from(["{}", "[]", "null", '{"status": []}', '{"lease_s": "x"}', '{"gpus": 3}'])
)


@settings(max_examples=200)
@given(st.integers(1, 8), NAMES, TEXTS, st.integers(-(2**70), 2**70), st.sampled_from([*State, "?"]))
def test_whatever_a_record_holds_it_is_shown(seq, event, data_json, at_ns, dest):
    made = changed(records(succeeded()), seq, event=event, data_json=data_json, at_ns=at_ns, dest=dest)
    story = read_story(KEY, made)
    rows = table(story)
    assert len(rows) == 8
    assert all(isinstance(cell, str) for row in rows for cell in row)
    job_row(Listed(KEY, "DONE", START_NS, START_NS, 8), story, START_NS)
    words(ending_cells(story.job))
    json.dumps([job_json(story.job), *map(record_json, story.steps)])
