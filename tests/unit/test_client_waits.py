"""Backoff, jitter and Retry-After."""

import pytest

from fsm_miner.coordinator.backoff import CallBackoff, jittered
from fsm_miner.coordinator.retry_after import RETRY_AFTER_S_MAX, retry_after_s

NOW_NS = 1_700_000_000 * 10**9  # Tue, 14 Nov 2023 22:13:20 GMT


def test_the_wait_doubles_up_to_the_maximum():
    backoff = CallBackoff(5.0, 120.0, 0.0)

    assert [backoff.delay_s(n, 0.5) for n in (1, 2, 3, 4, 5, 6, 7, 10_000)] == [
        5,
        10,
        20,
        40,
        80,
        120,
        120,
        120,
    ]


def test_jitter_goes_both_ways():
    assert jittered(10.0, 10.0, 0.0) == pytest.approx(9.0)
    assert jittered(10.0, 10.0, 0.5) == pytest.approx(10.0)
    assert jittered(10.0, 10.0, 1.0) == pytest.approx(11.0)


def test_what_the_coordinator_asks_for_is_the_least():
    backoff = CallBackoff(5.0, 120.0, 10.0)

    assert backoff.delay_s(1, 0.5, at_least_s=600.0) == 600.0
    assert backoff.delay_s(1, 0.5, at_least_s=1.0) == 5.0


@pytest.mark.parametrize("values", [(0.0, 1.0, 0.0), (2.0, 1.0, 0.0), (1.0, 2.0, -1.0), (1.0, 2.0, 100.0)])
def test_a_senseless_backoff_is_refused(values):
    with pytest.raises(ValueError, match=r"a (backoff|jitter)"):
        CallBackoff(*values)


@pytest.mark.parametrize(
    ("header", "wait_s"),
    [
        (None, None),
        ("", None),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("1.5", 1.5),
        ("0", 0.0),
        ("999999999999", RETRY_AFTER_S_MAX),
        ("9" * 5000, None),
        ("-5", None),
        ("\u0663", None),
        ("soon", None),
        ("nan", None),
        ("Tue, 14 Nov 2023 22:13:50 GMT", 30.0),
        ("Tue, 14 Nov 2023 22:13:50 -0000", 30.0),
        ("Tue, 14 Nov 2023 22:00:00 GMT", 0.0),
        ("Fri, 14 Nov 2098 22:00:00 GMT", RETRY_AFTER_S_MAX),
        ("Tue, 99 Nov 2023 22:13:50 GMT", None),
        ("Tue, 14 Nov 0000 22:13:50 GMT", 0.0),
    ],
)
def test_retry_after(header, wait_s):
    assert retry_after_s(header, lambda: NOW_NS) == wait_s
