"""Cases for the forensic page: lives of jobs with times, boots and measurements of their own."""

import random
from dataclasses import replace

from fsm_miner.forensics.case import Case, Sample
from fsm_miner.forensics.story import read_story
from journal import StreamKey
from journal.record import EMPTY, chain, prepare
from states import events as e
from tests.support.cli_journal import ARTIFACT, SHA, START_NS, entries, offered

SECOND = 1_000_000_000
MS = 1_000_000
HOUR = 3600 * SECOND
VERSIONS = {"fsm-miner": "0.1.0", "python": "3.11.2", "kernel": "6.1.0-31-amd64", "sqlite": "3.40.1"}


NOW = -1
"""Stands for the time of the event itself."""


def at_its_time(event, at_ns):
    if NOW in (getattr(event, "started_ns", 0), getattr(event, "finished_ns", 0)):
        field = "started_ns" if isinstance(event, e.Launched) else "finished_ns"
        return replace(event, **{field: START_NS + at_ns})
    return event


def records_at(timed, job_id="j-1", boots=None):
    """Records of (event, nanoseconds after the start) in a chain that holds; `boots` names boots by position."""
    key, made, head = StreamKey(job_id, 1), [], EMPTY
    for position, draft in enumerate(prepare(entries([at_its_time(event, at_ns) for event, at_ns in timed]))):
        boot = (boots or {}).get(position, "boot-1")
        (record,) = chain(key, head, [draft], at_ns=START_NS + timed[position][1], boot_id=boot)
        made.append(record)
        head = type(head)(record.seq, record.hash)
    return made


def case_of(timed, samples=(), log="", job_id="j-1", boots=None, **more):
    story = read_story(StreamKey(job_id, 1), records_at(timed, job_id, boots))
    return Case(story, "/var/lib/aitbc/miner/state/journal.db", (), log, tuple(samples), VERSIONS, **more)


def intended(run=1, memory_mb=256, output_mb=64):
    return e.LaunchIntended(
        run, "boot-1", f"run-{run}.lock", None, "/usr/bin/ffmpeg", SHA, 600.0, memory_mb, output_mb
    )


def launched(run=1):
    return e.Launched(run, 4242 + run, NOW, 1, ("sandbox-bubblewrap",))


def ended(cpu_s, memory_mb, code=0):
    return e.Ended("exited", code, None, NOW, {"cpu_s": cpu_s, "max_rss_mb": memory_mb})


def measured(run, begin_ns, end_ns, step_ns, holes=(), cores=0.9, memory_mb=180.0, disk_mb=40.0, seed=1):
    """Samples of a run that warms up, works with some noise, and cools down."""
    rng, cpu_s, at_ns = random.Random(seed), 0.0, begin_ns
    while at_ns < end_ns:
        share = (at_ns - begin_ns) / (end_ns - begin_ns)
        cpu_s += cores * step_ns / SECOND * (0.55 + 0.45 * rng.random()) * min(1.0, 0.2 + 4 * share)
        held = memory_mb * min(1.0, 3 * share) * (0.9 + 0.1 * rng.random())
        if not any(start <= at_ns < end for start, end in holes):
            yield Sample(run, START_NS + at_ns, round(cpu_s, 3), round(held, 1), round(disk_mb * share, 1))
        at_ns += step_ns


LOG = "\n".join(
    [
        "ffmpeg version 5.1.6-0+deb12u1",
        *(f"frame={n * 24:5} fps= 24 q=28.0 size={n * 190:7}kB time=00:00:{n:02}.00" for n in range(30)),
    ]
)


def rough(job_id="j-20260101-007"):
    """Two daemons killed, a coordinator away, and a success all the same: 47 s."""
    timed = [
        (offered(job_id, command="ffmpeg", args=["-y", "-i", "input1.mp4", "output.mp4"]), 0),
        (e.Acked(60.0), 18 * MS),
        (e.PrepStarted(), 24 * MS),
        (intended(), 310 * MS),
        (launched(), 334 * MS),
        (e.Reattached(1, 5101), 9 * SECOND),
        (e.Reattached(1, 5230), 17_400 * MS),
        (ended(17.1, 182.0), 26_100 * MS),
        (
            e.OutcomeKnown(None, "", artifacts=(ARTIFACT | {"path": "output.mp4", "size": 41_231_686},)),
            26_400 * MS,
        ),
        (e.RetryScheduled("UPLOADING", None, "connection refused", 2.0, START_NS + 28_500 * MS), 26_420 * MS),
        (e.RetryDue(), 28_500 * MS),
        (e.RetryScheduled("UPLOADING", None, "connection refused", 5.0, START_NS + 33_600 * MS), 28_530 * MS),
        (e.RetryDue(), 33_600 * MS),
        (e.RetryScheduled("UPLOADING", None, "HTTP 503", 11.0, START_NS + 44_700 * MS), 33_700 * MS),
        (e.RetryDue(), 44_700 * MS),
        (e.Delivered(200), 47 * SECOND),
    ]
    holes = ((6_200 * MS, 9_000 * MS), (13_100 * MS, 17_400 * MS))
    samples = measured(1, 400 * MS, 26_000 * MS, 500 * MS, holes)
    return case_of(timed, samples, LOG, job_id, node_id="node-abc123")


def brief():
    """An echo: 30 ms."""
    steps = [0, 3, 4, 11, 13, 21, 23, 30]
    made = [offered(), e.Acked(30.0), e.PrepStarted(), intended(), launched(), ended(0.002, 1.5)]
    made += [e.OutcomeKnown(None, "", artifacts=(ARTIFACT,)), e.Delivered(200)]
    return case_of([(event, at * MS) for event, at in zip(made, steps, strict=True)], (), "hello world\n")


def long():
    """Three days: a run lost to a reboot, another for two days and a half, and delivered."""
    timed = [
        (offered("j-train", command="train"), 0),
        (e.Acked(), 40 * MS),
        (e.PrepStarted(), 2 * HOUR),
        (intended(1, 16384, 5000), 2 * HOUR + 40 * SECOND),
        (launched(1), 2 * HOUR + 41 * SECOND),
        (e.Ended("lost", None, None, NOW, {}), 9 * HOUR),
        (
            e.RetryScheduled(
                "PREP",
                "E_LOST",
                "the process was lost with the machine",
                8.0,
                START_NS + 9 * HOUR + 8 * SECOND,
            ),
            9 * HOUR + MS,
        ),
        (e.RetryDue(), 9 * HOUR + 8 * SECOND),
        (intended(2, 16384, 5000), 9 * HOUR + 50 * SECOND),
        (launched(2), 9 * HOUR + 51 * SECOND),
        (ended(311_500.0, 9200.0), 71 * HOUR),
        (
            e.OutcomeKnown(
                None, "", artifacts=(ARTIFACT | {"path": "model.safetensors", "size": 4_100_200_300},)
            ),
            71 * HOUR + SECOND,
        ),
        (e.Delivered(200), 71 * HOUR + 300 * SECOND),
    ]
    boots = dict.fromkeys(range(5, 13), "boot-2")
    step = 7 * 60 * SECOND
    samples = [
        *measured(1, 2 * HOUR + 42 * SECOND, 8 * HOUR + 1800 * SECOND, step, (), 1.9, 9000, 1200, 2),
        *measured(2, 9 * HOUR + 52 * SECOND, 71 * HOUR, step, (), 1.95, 9200, 4000, 3),
    ]
    return case_of(timed, samples, "epoch 300/300 loss 0.0123\n", "j-train", boots)


def many(number=2000):
    """A coordinator that was away for days: as many records as a life may have."""
    timed = [
        (offered("j-outage"), 0),
        (e.Acked(), 30 * MS),
        (e.PrepStarted(), 50 * MS),
        (intended(), 90 * MS),
        (launched(), 100 * MS),
        (ended(3.0, 12.0), 4 * SECOND),
        (e.OutcomeKnown(None, "", artifacts=(ARTIFACT,)), 4 * SECOND + 5 * MS),
    ]
    at_ns = timed[-1][1]
    while len(timed) < number - 1:
        at_ns += 20 * MS
        timed.append((e.RetryScheduled("UPLOADING", None, "connection refused", 120.0, START_NS), at_ns))
        at_ns += 120 * SECOND
        timed.append((e.RetryDue(), at_ns))
    timed.append((e.Delivered(200), at_ns + 80 * MS))
    return case_of(timed, measured(1, 150 * MS, 4 * SECOND, 100 * MS), "hello\n", "j-outage")


SCRIPT = "</title></style></pre></script><script>document.title='owned'</script><img src=x onerror=alert(1)>"
EVIL = f"{SCRIPT}\"' javascript:alert(1) \u202egnp.exe\u2066 \ud800 \x00\x1b[31m {{{{7*7}}}} &lt;b&gt;"
# What a record's columns may hold: printable.
NAMED = f"{SCRIPT}\"' javascript:alert(1)"


def hostile():
    """Everything that a job, a coordinator or a bundle may choose is chosen by somebody who means harm."""
    job_id = NAMED
    artifact = {"path": EVIL, "type": EVIL, "size": 12, "sha256": EVIL}
    timed = [
        (offered(job_id, command=EVIL, args=[EVIL] * 4, env={EVIL: EVIL}, note="a" * 5000), 0),
        (e.Acked(), 10 * MS),
        (e.PrepStarted((EVIL,)), 20 * MS),
        (e.LaunchIntended(1, EVIL, EVIL, EVIL, EVIL, EVIL, 60.0, 256, 10), 40 * MS),
        (e.Launched(1, 4242, START_NS, 1, (EVIL,)), 60 * MS),
        (e.LimitExceeded("E_OUTPUT", EVIL), SECOND),
        (e.Ended(EVIL, None, 9, START_NS, {EVIL: EVIL, "cpu_s": 1.0}), 2 * SECOND),
        (e.OutcomeKnown("E_OUTPUT", EVIL * 5, artifacts=(artifact,)), 2 * SECOND + MS),
        (e.RetryScheduled("UPLOADING", "E_UPLOAD", EVIL, 1.0, 2**62), 2 * SECOND + 2 * MS),
        (e.RetryDue((EVIL,)), 3 * SECOND),
        (e.Superseded(EVIL, 409), 4 * SECOND),
    ]
    return Case(
        read_story(StreamKey(job_id, 1), records_at(timed, job_id), redacted=frozenset({4})),
        EVIL,
        (2, 3),
        "\n".join([EVIL, "x" * 20_000, "\u202e" * 50, "e" + "\u0301" * 300, *[EVIL] * 20]),
        tuple(measured(1, 100 * MS, 2 * SECOND, 50 * MS)),
        {EVIL: EVIL},
        frozenset({4}),
        node_id=EVIL,
        notes=(EVIL,),
    )


def broken():
    """A record was changed after it was written, and one can't be understood."""
    timed = [
        (event, at * SECOND)
        for at, event in enumerate([offered(), e.Acked(30.0), e.PrepStarted(), intended(), launched()])
    ]
    made = records_at(timed)
    made[3] = type(made[3])(*[*_fields(made[3])[:9], '{"run": "<b>1</b>"}', *_fields(made[3])[10:]])
    return Case(read_story(StreamKey("j-1", 1), made), "journal.db", (), None, None, VERSIONS)


def _fields(record):
    return [getattr(record, name) for name in type(record).__slots__]


def alive():
    """A run that goes on."""
    made = [offered(), e.Acked(30.0), e.PrepStarted(), intended(), launched(), e.Reattached(1, 77)]
    times = [0, 1, 1, 2, 2, 60]
    samples = measured(1, 3 * SECOND, 300 * SECOND, SECOND, ((40 * SECOND, 60 * SECOND),))
    return case_of([(event, at * SECOND) for event, at in zip(made, times, strict=True)], samples, LOG)


CASES = {
    "rough": rough,
    "brief": brief,
    "long": long,
    "many": many,
    "hostile": hostile,
    "broken": broken,
    "alive": alive,
}
