"""Backoff and the retry policy."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from states.retry import Backoff, Policy

CHANCES = st.floats(0, 1, exclude_max=True)
BACKOFFS = st.tuples(st.floats(0.001, 1e5), st.floats(0.001, 1e5)).map(lambda p: Backoff(min(p), max(p)))


@pytest.mark.parametrize(
    ("failures", "full_s"),
    [(0, 5), (1, 5), (2, 10), (3, 20), (4, 40), (5, 80), (6, 120), (7, 120), (10**9, 120)],
)
def test_waits_double_up_to_the_maximum(failures, full_s):
    backoff = Backoff(5.0, 120.0)
    assert backoff.delay_s(failures, 0.0) == full_s / 2
    assert backoff.delay_s(failures, 0.5) == full_s * 0.75


@pytest.mark.parametrize(("asked_s", "wait_s"), [(None, 5.0), (1.0, 5.0), (30.0, 30.0), (3600.0, 3600.0)])
def test_what_the_other_side_asks_for_is_a_minimum(asked_s, wait_s):
    assert Backoff(10.0, 120.0).delay_s(1, 0.0, asked_s) == wait_s


@pytest.mark.parametrize(("min_s", "max_s"), [(0, 1), (-1, 1), (2, 1), (float("nan"), 1), (1, float("nan"))])
def test_a_backoff_that_makes_no_sense_is_refused(min_s, max_s):
    with pytest.raises(ValueError, match="0 < min_s <= max_s"):
        Backoff(min_s, max_s)


@given(BACKOFFS, st.integers(1, 10_000), CHANCES)
def test_a_wait_lies_in_the_upper_half_of_its_step(backoff, failures, chance):
    wait = backoff.delay_s(failures, chance)
    assert backoff.min_s / 2 <= wait <= backoff.max_s
    assert wait <= backoff.delay_s(failures + 1, chance)


def test_the_policy_that_nobody_changed():
    assert Policy() == Policy(3, Backoff(2.0, 60.0), Backoff(5.0, 120.0))
