"""Why a job ended as it did: sentences with their records, for every history, and for bytes that nobody wrote."""

import dataclasses
import io
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsm_miner.cli.output import Screen
from fsm_miner.cli.why import show
from fsm_miner.forensics.case import Case, Sample
from fsm_miner.forensics.page_life import read_life
from fsm_miner.forensics.story import read_story
from fsm_miner.forensics.why import why
from fsm_miner.forensics.why_words import Calendar, lasting, sentence
from journal import StreamKey
from journal.record import EMPTY, chain, prepare
from states import events as e
from states.events import EVENTS
from tests.support.cli_journal import (
    KEY,
    SECOND,
    START_NS,
    changed,
    denied,
    entries,
    offered,
    records,
    running,
    succeeded,
)
from tests.support.job_histories import lives


def told(events, **fields):
    """The sentences of a life, with their numbers."""
    return [one.marked for one in why(Case(read_story(KEY, made(events)), "here", **fields))]


def made(events, gaps_s=None, boots=()):
    """Records at chosen distances; `boots` are the numbers of those that begin another boot."""
    found, head, at_ns, boot = [], EMPTY, START_NS, 1
    for number, draft in enumerate(prepare(entries(events)), start=1):
        at_ns += int((gaps_s or {}).get(number, 1) * SECOND)
        boot += number in boots
        (record,) = chain(KEY, head, [draft], at_ns=at_ns, boot_id=f"boot-{boot}")
        found.append(record)
        head = type(head)(record.seq, record.hash)
    return found


def text_of(records_, **fields):
    return "\n".join(one.marked for one in why(Case(read_story(KEY, records_), "here", **fields)))


def test_words_with_spaces_are_quoted_as_a_shell_would():
    life = succeeded()
    life[0] = offered(command="sh", args=["-c", "sleep 30; echo 'x'", ""])
    assert told(life)[2] == """It is to run: sh -c 'sleep 30; echo '"'"'x'"'"'' '' [1]."""


def test_a_success_in_five_sentences_and_a_verdict():
    assert told(succeeded())[0] == "j-1/1 succeeded [7], and the coordinator knows [8]."
    assert told(succeeded())[1:] == [
        "The coordinator handed it out at 00:00:01 UTC on 1 January 2026 [1] and agreed that it is ours [2].",
        "It is to run: echo hello world [1].",
        "It got a slot at once [3].",
        ("Run 1 was started at 00:00:03 as process 4242, with at most 1 min, 256 MiB of memory and 10 MiB of output "
        "[4-5]."),
        ("It ended by itself with exit code 0 at 00:00:05, after 2.0 s, having used 1.5 s of CPU time and 9.0 MiB of "
        "memory [6], which is a success, with 1 artifact: output.txt (12 B) [7]."),
        "The coordinator has had it since 00:00:08 (HTTP 200) [8].",
    ]  # fmt: skip


def test_a_denial_names_its_rule_and_says_that_nothing_ran():
    verdict, *story = told(denied("j-1"))
    assert verdict == (
        "j-1/1 failed, since the rules of this node don't allow it (E_DENY) [4], and the coordinator knows [5]."
    )
    assert story[2] == (
        "It got a slot at 00:00:03 [3], and no process was started for it: it is a failure, since the rules of this "
        "node don't allow it (E_DENY: command: \"rm\" is not allowed on this node); trying again can't mend it [4]."
    )


PREP = succeeded()[:3]
ALIVE = succeeded()[:5]
LOST = e.Ended("lost", None, None, START_NS + 60 * SECOND, {})
FAILED = e.OutcomeKnown("E_EXIT", "the command ended with exit code 3")
ENDED_3 = e.Ended("exited", 3, None, START_NS + 20 * SECOND, {})


def outage(tries, reason="connection refused"):
    return [
        event
        for n in range(tries)
        for event in (e.RetryScheduled("UPLOADING", None, reason, 60.0, START_NS), e.RetryDue())
    ]


@pytest.mark.parametrize(
    ("events", "words"),
    [
        ([offered(), e.Superseded("somebody else's", 409)],
         ("From 00:00:02 on the coordinator wanted nothing more of it from this node (somebody else's; HTTP 409); so "
         "nothing was run here [2].")),
        ([*ALIVE, e.Reattached(1, 77), e.Reattached(1, 78)],
         ("A daemon died or was stopped while it ran; the next (process 77, at most 1.0 s later, on the same boot) "
         "found it alive at 00:00:06 [6]; that one went too, and the next (process 78, at most 1.0 s later, on the "
         "same boot) found it alive at 00:00:07 [7].")),
        ([*ALIVE, e.CancelRequested("operator"), e.Ended("signalled", None, 15, START_NS + 7 * SECOND, {}),
          e.OutcomeKnown("E_CANCELLED", "cancelled by the operator")],
         ("The node ended it (signal 15) at 00:00:07, after 4.0 s [7], which is a failure, since it was stopped "
         "because somebody wanted that (E_CANCELLED: cancelled by the operator); nobody is to try it again [8].")),
        ([*ALIVE, e.Ended("sandbox_failed", None, None, START_NS + 7 * SECOND, {}),
          e.OutcomeKnown("E_INTERNAL", "the sandbox could not be built: bwrap: execvp /opt/x: No such file")],
         ("The sandbox could not be built, or could not start the command, which never began, at 00:00:07, after 4.0 s "
         "[6], which is a failure, since its program can't be run in the sandbox; `fsm-miner check` says what it lacks "
         "(E_INTERNAL: the sandbox could not be built: bwrap: execvp /opt/x: No such file); another node may try it "
         "[7].")),
        ([*ALIVE, e.LimitExceeded("E_OUTPUT", "output/ has 101 MiB; 100 are allowed.")],
         ("It went over a limit at 00:00:06: output/ has 101 MiB; 100 are allowed (E_OUTPUT); so the node set about "
         "ending it [6].")),
        ([*ALIVE, e.Ended("out_of_memory", None, None, START_NS + 7 * SECOND, {})],
         "It wanted more memory than its limit, and was killed for that at 00:00:07, after 4.0 s [6]."),
        ([*ALIVE, e.Ended("timed_out", None, None, START_NS + 63 * SECOND, {})],
         "Its time limit ran out, and it was ended at 00:01:03, after 1 min [6]."),
        ([*ALIVE, LOST, e.RetryScheduled("PREP", "E_LOST", "the process was lost", 2.0, START_NS + 70 * SECOND),
          e.RetryDue(), *running(2)],
         ("As its process was lost (E_LOST: the process was lost), which may go better another time, it was to be run "
         "again in 2.0 s, at 00:01:10 [7].")),
        ([*ALIVE, e.AbandonRequested("its lease ran out")],
         "The coordinator took it away from this node at 00:00:06: its lease ran out [6]."),
        ([*PREP, e.RetryScheduled("PREP", "E_INPUT", "input.urls[0]: HTTP 503", 2.0, START_NS + 6 * SECOND)],
         ("As an input could not be had (E_INPUT: input.urls[0]: HTTP 503), which may go better another time, it was "
         "to be run again in 2.0 s, at 00:00:06 [4].")),
        ([*ALIVE, ENDED_3, FAILED, *outage(14), e.Delivered(200)],
         ("For 28 s, from 00:00:08 on, the coordinator did not take the outcome (connection refused; 14 tries) [8-35]; "
         "it has had it since 00:00:36 (HTTP 200) [36].")),
        ([*ALIVE, ENDED_3, FAILED, *outage(2), *outage(1, "HTTP 503"), e.Superseded("it has moved on", 410)],
         "did not take the outcome (connection refused, twice; HTTP 503; 3 tries) [8-13]."),
        ([*succeeded()[:7], e.OutcomeRevised("E_UPLOAD", "the result was not taken: 413")],
         ("The success became a failure at 00:00:08, since the coordinator did not want the result as it is (E_UPLOAD: "
         "the result was not taken: 413) [8].")),
    ],
)  # fmt: skip
def test_causes_are_named(events, words):
    assert words in "\n".join(told(events))


@pytest.mark.parametrize(
    ("events", "words"),
    [
        (succeeded()[:1], "Now the coordinator is asked again and again whether the job is ours"),
        (succeeded()[:2], "Now it waits for a free slot; there is no time limit on that [2]."),
        ([offered(requirements={"gpu": True}), e.Acked()], "Now it waits for a free slot and a card that fits"),
        (PREP, "Now run 1 is being prepared"),
        (succeeded()[:4], "Now run 1 is about to be started [4]."),
        (ALIVE, "Now run 1 goes on, until 00:01:03 UTC on 1 January 2026 at the latest (its limit is 1 min) [4-5]."),
        ([*ALIVE, e.CancelRequested("operator")], "Now run 1 is being ended"),
        (succeeded()[:6], "Now what it promised is being checked and hashed [6]."),
        (succeeded()[:7], "Now the outcome is being delivered (try 1), for as long as it takes [7]."),
        ([*succeeded()[:7], *outage(3)[:-1]],
         "Now it waits until 00:00:00 UTC on 1 January 2026, then the outcome is delivered again (try 4) [12]."),
        ([*ALIVE, LOST, e.RetryScheduled("PREP", "E_LOST", "lost", 2.0, START_NS)],
         "then for a slot, and is run again (run 2) [7]."),
        ([offered(), e.CancelRequested("operator")], "The operator wants it stopped [2]."),
    ],
)  # fmt: skip
def test_what_an_unfinished_job_waits_for_comes_last(events, words):
    assert words in "\n".join(told(events)[-2:])


def test_a_reboot_is_seen_by_its_boot_and_a_clock_that_was_set_back_by_the_clock():
    text = text_of(made([*ALIVE, LOST], {6: 600}, boots={6}))
    assert (
        "Then the machine was rebooted: the last record before it and the first after it are 10 min apart [5-6]."
        in text
    )
    assert "It was found gone, without an exit code" in text
    text = text_of(made(succeeded(), {3: -3600}))
    assert "The node's clock was set back meanwhile, by more than 1 h [2-3]." in text


def test_a_launch_that_was_recorded_late_tells_of_a_daemon_that_died():
    text = text_of(made(ALIVE, {5: 30}))
    assert "That was recorded 31 s later: the daemon had died in between" in text


def test_an_end_that_nobody_saw_was_found_out_later():
    text = text_of(made([*ALIVE, ENDED_3, FAILED], {6: 60}))
    said = "This was written down 45 s later: no daemon was there, or its journal could not be written [6]."
    assert said in text


def test_the_story_tells_of_each_time_that_the_page_draws_as_one_without_a_daemon():
    lives = [
        made([*ALIVE, ENDED_3, FAILED], {6: 60}),
        made([*ALIVE, e.Reattached(1, 77), e.Reattached(1, 78)], {6: 60, 7: 90}),
        made([*ALIVE, e.Ended("exited", 0, None, START_NS + 65 * SECOND, {})], {6: 60}),
    ]
    samples = tuple(Sample(1, START_NS + n * SECOND, 1.0, 1.0, 1.0) for n in (*range(6, 12), *range(40, 64)))
    zones = []
    for life in lives:
        case = Case(read_story(KEY, life), "here", samples=samples)
        found = [one for one in read_life(case).breaks if one.kind == "daemon"]
        text = "\n".join(one.marked for one in why(case))
        for one in found:
            told_as = (
                one.words.startswith("The end") or f"t most {lasting(one.end_ns - one.start_ns)} " in text
            )
            assert told_as, (one, text)
        zones.append(len(found))
    assert zones == [2, 2, 1]
    assert "For at most 29 s nobody watched the run [6]." in text


def test_a_lease_that_had_run_out_is_named_where_a_job_was_taken_away():
    taken = [e.Reattached(1, 77), e.AbandonRequested("the coordinator said so after a restart of the daemon")]
    events = [offered(), e.Acked(30.0), *ALIVE[2:], *taken]
    said = (
        "Its lease of 30 s had probably run out: the coordinator may have heard nothing of this node for 45 s"
    )
    assert f"{said} [7]." in text_of(made(events, {6: 45}))
    assert "had probably run out" not in text_of(made(events, {6: 25}))
    refused = [
        offered(),
        e.Acked(30.0),
        *ALIVE[2:],
        e.Reattached(1, 77),
        ENDED_3,
        FAILED,
        e.Superseded("gone", 409),
    ]
    assert f"{said} [9]." in text_of(made(refused, {6: 45}))


def test_what_an_older_version_said_of_a_refused_delivery_is_not_said_twice():
    text = text_of(made([*succeeded()[:7], e.Superseded("the coordinator has moved on", 409)]))
    assert "from this node (the coordinator handed it out again, or forgot it; HTTP 409); so" in text


def test_a_verdict_on_records_that_do_not_hold_says_so():
    text = text_of(changed(records(succeeded()), 4, at_ns=START_NS + 5))
    assert "j-1/1 (by its records) succeeded [7]" in text


def test_the_last_sign_of_a_daemon_may_be_a_sample_of_the_usage():
    life = made([*ALIVE, e.Reattached(1, 77)], {6: 60})
    samples = tuple(Sample(1, START_NS + n * SECOND, 1.0, 1.0, 1.0) for n in range(4, 58))
    assert "at most 1 min later" in text_of(life)
    assert "at most 8.0 s later" in text_of(life, samples=samples)


def test_a_long_wait_for_a_slot_is_told():
    assert "It waited 4 min for a slot and got it at 00:04:02 [3]." in text_of(made(succeeded(), {3: 240}))


def test_damage_is_told_first():
    first, *_ = why(Case(read_story(KEY, changed(records(succeeded()), 4, version=2, boot_id="x")), "here"))
    assert first.topic == "damage"
    assert first.marked.startswith(
        "Record 4 is not what was written: its content is not what its hash covers [4]; "
    )
    assert first.records == (4, 5, 6, 7, 8)


def test_what_was_redacted_is_told_last():
    *_, last = why(Case(read_story(KEY, records(succeeded())), "here", redacted=frozenset({1})))
    assert last.marked == "This record was redacted: its hash is taken on trust [1]."


def test_no_record_at_all():
    assert [one.text for one in why(Case(read_story(KEY, []), "here"))] == [
        "Not one record of this job could be read."
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 ms"), (0.0124, "12 ms"), (0.9996, "1.0 s"), (9.96, "10 s"), (59.6, "1 min"), (245, "4 min 5 s"),
     (11520, "3 h 12 min"), (187200, "2 d 4 h"), (-60, "1 min")],
)  # fmt: skip
def test_a_length_of_time(seconds, text):
    assert lasting(round(seconds * SECOND)) == text


def test_the_day_is_named_where_it_changes():
    at = Calendar().at
    assert [at(START_NS), at(START_NS + SECOND), at(START_NS + 86400 * SECOND), at(10**30)] == [
        "at 00:00:00 UTC on 1 January 2026",
        "at 00:00:01",
        "at 00:00:00 on 2 January 2026",
        "at a time that is none",
    ]


def test_a_sentence_has_its_records_in_order_and_in_short():
    made_ = sentence("run", ("A", [3, 1]), (" and b", [2, 7]))
    assert (made_.text, made_.marked, made_.records) == ("A and b.", "A [1, 3] and b [2, 7].", (1, 2, 3, 7))


def bad_night():
    """Two daemons that died, and three hours without a coordinator."""
    life = [
        offered(command="ffmpeg", args=["-i", "talk.mkv", "talk.mp4"]),
        e.Acked(30.0),
        e.PrepStarted(),
        e.LaunchIntended(1, "boot-1", "run-1.lock", None, "/usr/bin/ffmpeg", "ab" * 32, 3600.0, 4096, 5000),
        running()[1],
        e.Reattached(1, 2214),
        e.Reattached(1, 2290),
        e.Ended("exited", 3, None, START_NS + 843 * SECOND, {"cpu_s": 800.0, "max_rss_mb": 212.4}),
        FAILED,
        *outage(14, "cannot connect: connection refused"),
        e.Delivered(200),
    ]
    gaps_s = {6: 312, 7: 401, 8: 125, 9: 0, **dict.fromkeys(range(11, 39), 411)}
    return made(life, gaps_s)


def test_the_example_in_the_documentation_is_what_is_said():
    samples = tuple(
        Sample(1, START_NS + n * SECOND, 1.0, 1.0, 1.0) for n in range(5, 705, 5) if not 300 < n < 318
    )
    out = io.StringIO()
    show(Screen(out, columns=100), why(Case(read_story(KEY, bad_night()), "here", samples=samples)))
    text = (Path(__file__).parents[2] / "docs/forensics.md").read_text(encoding="utf-8")
    example = "".join(f"    {line}".rstrip() + "\n" for line in out.getvalue().splitlines())
    assert f"    $ fsm-miner why j-1\n{example}" in text, example


@settings(max_examples=100, deadline=None)
@given(lives())
def test_every_record_of_any_life_is_behind_a_sentence(life):
    key = StreamKey(life.job.job_id or "j", life.job.attempt)
    draft = prepare(entries(life.events)) if life.events else ()
    story = read_story(key, chain(key, EMPTY, draft, at_ns=START_NS, boot_id="boot-1"))
    sentences = why(Case(story, "here"))
    behind = {seq for one in sentences for seq in one.records}
    assert behind == set(range(1, len(life.events) + 1))
    assert not any(one.topic == "damage" for one in sentences if life.events)
    assert all(one.marked.endswith(".") and one.text[0].isupper() for one in sentences[1:])
    assert (sentences[-1].topic == "now") == (
        bool(life.events) and not life.job.final
    ) or life.job.cancelled_by


@pytest.mark.parametrize(
    ("seq", "fields"),
    [(4, {"time_limit_s": [0, 1]}), (6, {"usage": {"cpu_s": [1]}}), (6, {"usage": {"cpu_s": 1e308}})],
)
def test_a_list_in_the_place_of_a_number_is_not_multiplied(seq, fields):
    life = records(succeeded())
    life = changed(life, seq, data_json=json.dumps(life[seq - 1].data | fields))
    text = text_of(life)
    assert "holds makes no sense, so it can't be told" in text


NAMES = st.sampled_from([*EVENTS, "Other"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(st.data(), st.integers(1, 8), NAMES, st.integers(-(2**70), 2**70))
def test_whatever_a_record_holds_it_is_told_or_named(data, seq, event, at_ns):
    fields = [field.name for field in dataclasses.fields(EVENTS.get(event, e.Acked))]
    values = data.draw(st.fixed_dictionaries(dict.fromkeys(fields, VALUES)) | VALUES)
    text = data.draw(st.just(None) | st.text())
    data_json = json.dumps(values) if text is None else text
    life = changed(records(succeeded()), seq, event=event, data_json=data_json, at_ns=at_ns)
    sentences = why(Case(read_story(KEY, life), "here"))
    assert {number for one in sentences for number in one.records} == set(range(1, 9))
