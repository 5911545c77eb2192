"""The error codes, as the contract's table has them. Written out by hand: the wire must not change by itself."""

import pytest

from states.codes import RULES, ErrorCode, Failure
from states.events import LimitExceeded, OutcomeKnown, OutcomeRevised, failure_of

# code, retried by the node, reported as retryable
CONTRACT = [
    ("E_INVALID", False, False),
    ("E_SIGNATURE", False, False),
    ("E_DENY", False, False),
    ("E_NOGPU", False, True),
    ("E_NORESOURCE", False, True),
    ("E_INPUT", True, True),
    ("E_EXIT", False, False),
    ("E_SIGNAL", False, True),
    ("E_TIMEOUT", False, False),
    ("E_OOM", False, False),
    ("E_OUTPUT", False, False),
    ("E_ARTIFACT", False, False),
    ("E_CANCELLED", False, False),
    ("E_LOST", True, True),
    ("E_UPLOAD", False, False),
    ("E_INTERNAL", False, True),
]


def test_the_codes_are_those_of_the_contract():
    assert [code.value for code in ErrorCode] == [code for code, _, _ in CONTRACT]
    assert list(RULES) == list(ErrorCode)


@pytest.mark.parametrize(("code", "here", "reported"), CONTRACT)
def test_rule(code, here, reported):
    failure = Failure(ErrorCode(code), "why")
    assert (failure.retry_here, failure.retryable) == (here, reported)


@pytest.mark.parametrize("code", ErrorCode)
def test_what_is_permanent_is_retried_by_nobody(code):
    failure = Failure(code, "a wrong hash", permanent=True)
    assert (failure.retry_here, failure.retryable) == (False, False)


def test_the_rules_cannot_be_changed():
    with pytest.raises(TypeError):
        RULES[ErrorCode.EXIT] = RULES[ErrorCode.LOST]  # type: ignore[index]


def test_failures_come_back_from_events():
    assert failure_of(OutcomeKnown(None, "exit code 0")) is None
    assert failure_of(OutcomeKnown("E_INPUT", "hash", permanent=True)) == Failure(
        ErrorCode.INPUT, "hash", True
    )
    assert failure_of(OutcomeRevised("E_UPLOAD", "413")) == Failure(ErrorCode.UPLOAD, "413")
    assert failure_of(LimitExceeded("E_OOM", "512 MiB")) == Failure(ErrorCode.OOM, "512 MiB")
