"""Intake: what comes of offers that are known, exported, malformed, or more than the daemon can bear."""

import asyncio
from types import SimpleNamespace

import pytest

from fsm_miner.coordinator.port import JobOffer
from fsm_miner.intake import Intake
from fsm_miner.pull import Pull
from journal.port import StreamKey, StreamSealed
from states.admission import Room

JOB = {"job_id": "j-1", "runner": "cli", "command": "echo"}


class Log:
    def __init__(self):
        self.events = []

    def info(self, event, **attrs):
        self.events.append(event)

    warning = error = info


class Supervisor:
    """Takes up nothing."""

    def __init__(self, answer=False):
        self.answer, self.offers = answer, []

    async def offer(self, stimulus):
        self.offers.append(stimulus)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def job(self, key):
        return None


def take(supervisor, manifest):
    echoed, log = [], Log()
    intake = Intake(
        supervisor,
        lambda key, secrets: None,
        lambda key, *, sealed: echoed.append((key, sealed)),
        clock=SimpleNamespace(now_ns=lambda: 7),
        log=log,
    )
    return asyncio.run(intake(manifest)), echoed, log.events


def test_what_is_known_is_echoed():
    assert take(Supervisor(), JOB) == (False, [(StreamKey("j-1", 1), False)], ["offer_known"])


def test_what_was_exported_is_echoed_as_exported():
    sealed = Supervisor(StreamSealed("was exported"))
    assert take(sealed, {**JOB, "attempt": 3}) == (False, [(StreamKey("j-1", 3), True)], ["offer_known"])


@pytest.mark.parametrize("attempt", ["2", 2_000_000, 0, -1, True, 2.0, [], {}])
def test_an_attempt_that_is_no_number_is_nobody_s_word_about_the_first(attempt):
    assert take(Supervisor(), {**JOB, "attempt": attempt}) == (False, [], ["offer_unusable"])


def test_an_attempt_that_is_no_number_of_a_new_job_is_answered():
    supervisor = Supervisor(answer=True)
    assert take(supervisor, {**JOB, "attempt": "2"}) == (True, [], [])
    assert supervisor.offers[0].problem.code == "E_INVALID"


def test_no_offer_ends_the_pulling():
    log = Log()

    async def pull(request):
        return JobOffer(JOB)

    async def broken(manifest):
        raise IndexError("list index out of range")

    async def run():
        class Over(Exception):
            pass

        async def sleep(seconds):
            raise Over

        async def ready():
            return None

        supervisor = SimpleNamespace(changed=asyncio.Event(), room=lambda: Room(1, ()))
        loop = Pull(
            SimpleNamespace(pull=pull),
            SimpleNamespace(ready=ready),
            supervisor,
            broken,
            lambda room: None,
            lambda: None,
            poll_interval_s=5.0,
            backoff=None,
            clock=SimpleNamespace(boot_ns=lambda: 1, sleep=sleep),
            dice=None,
            log=log,
        )
        with pytest.raises(Over):
            await loop.run()

    asyncio.run(run())
    assert log.events == ["offer_failed"]
