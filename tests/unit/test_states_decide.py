"""The machine as a table: what each stimulus means at each stage of a job's life.

Read a line as: at this stage, this stimulus writes these events and leads to this state. A code after a
colon is the outcome's; a state after a colon is where a wait leads back to. What is not listed is ignored.
"""

from dataclasses import replace

import pytest

from states import stimuli as s
from states.codes import ErrorCode, Failure
from states.decide import decide
from states.events import CancelRequested, Ended, OutcomeKnown, RetryScheduled
from states.evolve import fold
from states.retry import Backoff, Policy
from states.stimuli import Stimulus
from tests.support.job_stages import NOW_NS, POLICY, STAGES, STIMULI, gone, job_at, offered

_CANCELLED = "CancelRequested OutcomeKnown:E_CANCELLED → UPLOADING"
_STOPPED = dict.fromkeys(
    ["exited 0", "exited 3", "signalled", "timed out", "out of memory", "sandbox failed", "lost"],
    "Ended OutcomeKnown:E_CANCELLED → UPLOADING",
)
_DELIVERY = {
    "abandon": "Superseded → FAILED",
    "delivery refused": "Superseded → FAILED",
    "delivery unknown": "RetryScheduled:UPLOADING → RETRY_WAIT",
    "effect failed": "RetryScheduled:UPLOADING → RETRY_WAIT",
}
_ENDS = {
    "exited 3": "Ended OutcomeKnown:E_EXIT → UPLOADING",
    "signalled": "Ended OutcomeKnown:E_SIGNAL → UPLOADING",
    "timed out": "Ended OutcomeKnown:E_TIMEOUT → UPLOADING",
    "out of memory": "Ended OutcomeKnown:E_OOM → UPLOADING",
    "sandbox failed": "Ended OutcomeKnown:E_INTERNAL → UPLOADING",
    "lost": "Ended RetryScheduled:PREP → RETRY_WAIT",
}
_LIVING = {
    "process found": "Reattached → RUNNING",
    "limit hit": "LimitExceeded → RUNNING",
    "cancel": "CancelRequested → RUNNING",
    "abandon": "AbandonRequested → RUNNING",
}

EXPECTED: dict[str, dict[str, str]] = {
    "IDLE": {
        "offer": "Offered → PULLING",
        "bad offer": "Offered → PULLING",
    },
    "PULLING": {
        "ack granted": "Acked → ACKED",
        "ack refused": "Superseded → FAILED",
        "cancel": "CancelRequested → PULLING",
        "abandon": "Superseded → FAILED",
    },
    # Whether it is ours must be known before anything can be reported about it.
    "PULLING, cancelled": {
        "ack granted": "Acked PrepStarted OutcomeKnown:E_CANCELLED → UPLOADING",
        "ack refused": "Superseded → FAILED",
        "abandon": "Superseded → FAILED",
    },
    "PULLING, the manifest is no good": {
        "ack granted": "Acked PrepStarted OutcomeKnown:E_DENY → UPLOADING",
        "ack refused": "Superseded → FAILED",
        "cancel": "CancelRequested → PULLING",
        "abandon": "Superseded → FAILED",
    },
    "ACKED": {
        "slot granted": "PrepStarted → PREP",
        "slot impossible": "PrepStarted OutcomeKnown:E_NOGPU → UPLOADING",
        "cancel": "CancelRequested PrepStarted OutcomeKnown:E_CANCELLED → UPLOADING",
        "abandon": "AbandonRequested PrepStarted OutcomeKnown:E_CANCELLED Superseded → FAILED",
    },
    "PREP": {
        "prep done": "LaunchIntended → PREP",
        "prep failed": "RetryScheduled:PREP → RETRY_WAIT",
        "prep failed for good": "OutcomeKnown:E_DENY → UPLOADING",
        "cancel": _CANCELLED,
        "abandon": "AbandonRequested OutcomeKnown:E_CANCELLED Superseded → FAILED",
        "effect failed": "OutcomeKnown:E_INTERNAL → UPLOADING",
    },
    # A process may exist: nothing is said about the job before somebody looked. A defect looks again.
    "PREP, launch intended": {
        "launch succeeded": "Launched → RUNNING",
        "launch failed": "OutcomeKnown:E_INTERNAL → UPLOADING",
        "cancel": "CancelRequested → PREP",
        "abandon": "AbandonRequested → PREP",
    },
    "PREP, launch intended, cancelled": {
        "launch succeeded": "Launched → RUNNING",
        "launch failed": "OutcomeKnown:E_CANCELLED → UPLOADING",
        "abandon": "AbandonRequested → PREP",
    },
    "PREP, launch intended, abandoned": {
        "launch succeeded": "Launched → RUNNING",
        "launch failed": "OutcomeKnown:E_CANCELLED Superseded → FAILED",
        "cancel": "CancelRequested → PREP",
    },
    "RUNNING": {
        **_LIVING,
        **_ENDS,
        "exited 0": "Ended → RUNNING",
    },
    "RUNNING, nothing to collect": {
        **_LIVING,
        **_ENDS,
        "exited 0": "Ended OutcomeKnown:success → UPLOADING",
    },
    # Stopped on purpose: how it ended no longer matters, and there is no second reason to stop.
    "RUNNING, cancelled": {
        **_STOPPED,
        "process found": "Reattached → RUNNING",
        "abandon": "AbandonRequested → RUNNING",
    },
    "RUNNING, abandoned": {
        **dict.fromkeys(_STOPPED, "Ended OutcomeKnown:E_CANCELLED Superseded → FAILED"),
        "process found": "Reattached → RUNNING",
        "cancel": "CancelRequested → RUNNING",
    },
    "RUNNING, over a limit": {
        **dict.fromkeys(_STOPPED, "Ended OutcomeKnown:E_OUTPUT → UPLOADING"),
        "process found": "Reattached → RUNNING",
        "cancel": "CancelRequested → RUNNING",
        "abandon": "AbandonRequested → RUNNING",
    },
    "RUNNING, ended": {
        "artifacts collected": "OutcomeKnown:success → UPLOADING",
        "artifacts refused": "OutcomeKnown:E_ARTIFACT → UPLOADING",
        "output doubted": "RetryScheduled:PREP → RETRY_WAIT",
        "cancel": _CANCELLED,
        "abandon": "AbandonRequested OutcomeKnown:E_CANCELLED Superseded → FAILED",
        "effect failed": "OutcomeKnown:E_INTERNAL → UPLOADING",
    },
    # The outcome stands: a cancel comes too late.
    "UPLOADING a success": {
        **_DELIVERY,
        "delivered": "Delivered → DONE",
        "delivery rejected": "OutcomeRevised:E_UPLOAD → UPLOADING",
        "artifacts refused": "OutcomeRevised:E_ARTIFACT → UPLOADING",
    },
    "UPLOADING a failure": {
        **_DELIVERY,
        "delivered": "Delivered → FAILED",
        "delivery rejected": "RetryScheduled:UPLOADING → RETRY_WAIT",
    },
    # The way back to PREP needs a slot, not only a timer.
    "RETRY_WAIT for a run": {
        "slot granted": "RetryDue → PREP",
        "slot impossible": "RetryDue OutcomeKnown:E_NOGPU → UPLOADING",
        "cancel": "CancelRequested RetryDue OutcomeKnown:E_CANCELLED → UPLOADING",
        "abandon": "AbandonRequested RetryDue OutcomeKnown:E_CANCELLED Superseded → FAILED",
    },
    "RETRY_WAIT for a delivery": {
        "timer fired": "RetryDue → UPLOADING",
        "abandon": "AbandonRequested RetryDue Superseded → FAILED",
    },
    "DONE": {},
    "FAILED": {},
    "FAILED, superseded": {},
}


def _told(stage: str, stimulus: Stimulus) -> str:
    job = job_at(stage)
    events = decide(job, stimulus, POLICY)
    words = []
    for event in events:
        name = type(event).__name__
        if name in ("OutcomeKnown", "OutcomeRevised"):
            name += f":{event.code or 'success'}"
        if isinstance(event, RetryScheduled):
            name += f":{event.back_to}"
        words.append(name)
    return f"{' '.join(words)} → {fold(events, job).state}" if words else ""


@pytest.mark.parametrize("stage", EXPECTED)
def test_every_stimulus_at_every_stage(stage):
    told = {name: _told(stage, stimulus) for name, stimulus in STIMULI.items()}
    assert {name: line for name, line in told.items() if line} == EXPECTED[stage]


def test_the_table_has_every_stage_and_every_stimulus():
    assert EXPECTED.keys() == STAGES.keys()
    assert {type(stimulus) for stimulus in STIMULI.values()} == set(Stimulus.__args__)
    assert set(s.How) == {x.how for x in STIMULI.values() if isinstance(x, s.ProcessGone)}


# What the events say.


def test_a_failure_keeps_its_message_and_permanence():
    wrong_hash = Failure(ErrorCode.INPUT, "input.urls[0]: SHA-256 differs", permanent=True)
    events = decide(job_at("PREP"), s.PrepFailed(wrong_hash, NOW_NS, 0.0), POLICY)
    assert events == (OutcomeKnown(ErrorCode.INPUT, "input.urls[0]: SHA-256 differs", permanent=True),)
    assert fold(events, job_at("PREP")).failure == wrong_hash


def test_a_cancel_says_who_and_counts_once():
    first = decide(job_at("RUNNING"), s.CancelAsked("coordinator"), POLICY)
    assert first == (CancelRequested("coordinator"),)
    assert decide(fold(first, job_at("RUNNING")), s.CancelAsked("operator"), POLICY) == ()


def test_an_end_says_what_the_process_left():
    stimulus = replace(gone(s.How.EXITED, 3), detail="its last line: no such codec")
    ended, outcome = decide(job_at("RUNNING"), stimulus, POLICY)
    assert ended == Ended(s.How.EXITED, 3, None, NOW_NS, {"cpu_s": 1.5})
    assert outcome.message == "the command ended with exit code 3: its last line: no such codec"


def test_what_is_known_of_a_lost_process_comes_first_and_a_guess_only_without_it():
    detail = "its folder /j was removed while it ran, so the node ended it"
    lost = replace(gone(s.How.LOST), detail=detail)
    messages = [decide(job_at("RUNNING"), one, POLICY)[1].reason for one in (lost, gone(s.How.LOST))]
    assert messages == [
        f"{detail}; it left no exit code",
        "the process was lost without an exit code (power cut or reboot?)",
    ]


# Retries.


def test_a_run_is_tried_again_up_to_max_runs():
    policy = Policy(max_runs=3, run_backoff=Backoff(2.0, 60.0))
    job, delays = job_at("PREP"), []
    while True:
        events = decide(job, STIMULI["prep failed"], policy)
        job = fold(events, job)
        if not isinstance(events[0], RetryScheduled):
            break
        delays.append(events[0].delay_s)
        job = fold(decide(job, s.SlotGranted(), policy), job)
    assert delays == [1.0, 2.0]  # chance 0.0 gives the lower half of 2 and 4 seconds
    assert job.run == 3
    assert job.failure == Failure(ErrorCode.INPUT, "input.urls[0]: connection refused (run 3 of 3)")


def test_one_run_only_needs_no_counting():
    (outcome,) = decide(job_at("PREP"), STIMULI["prep failed"], Policy(max_runs=1))
    assert outcome == OutcomeKnown(ErrorCode.INPUT, "input.urls[0]: connection refused")


def test_another_run_starts_clean():
    job = fold(decide(job_at("RUNNING"), STIMULI["lost"], POLICY), job_at("RUNNING"))
    job = fold(decide(job, s.SlotGranted(("GPU-2",)), POLICY), job)
    assert (job.run, job.gpus) == (2, ("GPU-2",))
    assert (job.intent, job.launch, job.ended, job.limit, job.retry) == (None,) * 5


def test_deliveries_are_tried_for_ever_with_growing_waits():
    job, delays = job_at("UPLOADING a success"), []
    for _ in range(8):
        (retry,) = decide(job, STIMULI["delivery unknown"], POLICY)
        delays.append(retry.delay_s)
        job = fold((retry, *decide(fold([retry], job), s.RetryTimerFired(), POLICY)), job)
    assert delays == [2.5, 5.0, 10.0, 20.0, 40.0, 60.0, 60.0, 60.0]
    assert job.deliveries == 8


def test_retry_after_is_obeyed():
    stimulus = s.DeliveryUnknown("503", 300.0, NOW_NS, 0.0)
    (retry,) = decide(job_at("UPLOADING a failure"), stimulus, POLICY)
    assert retry == RetryScheduled("UPLOADING", None, "503", 300.0, NOW_NS + 300_000_000_000)


def test_a_result_that_is_refused_becomes_a_failure_and_is_delivered():
    job = job_at("UPLOADING a success")
    job = fold(decide(job, STIMULI["delivery rejected"], POLICY), job)
    assert job.failure == Failure(
        ErrorCode.UPLOAD, "the result was not taken: the coordinator refuses it with 413: too large"
    )
    assert job.artifacts == ()
    assert fold(decide(job, s.DeliveryDone(200), POLICY), job).state == "FAILED"


def test_a_manifest_problem_is_told_even_if_the_job_was_cancelled_too():
    denied = job_at("PULLING, the manifest is no good")
    job = fold(decide(denied, s.CancelAsked("operator"), POLICY), denied)
    *_, outcome = decide(job, s.AckGranted(None), POLICY)
    assert outcome.code == ErrorCode.DENY


def test_an_offer_is_kept_whole():
    problem = Failure(ErrorCode.SIGNATURE, "no key with this kid")
    stimulus = s.OfferReceived("j-1", 1, offered().manifest, "cd" * 32, problem, NOW_NS)
    events = decide(job_at("IDLE"), stimulus, POLICY)
    assert events == (offered(problem),)
    assert fold(events).problem == problem
