"""How Retry-After is read."""

import pytest

from fsm_miner.coordinator.retry_after import RETRY_AFTER_S_MAX, retry_after_s

NOW_NS = 1_700_000_000 * 10**9  # Tue, 14 Nov 2023 22:13:20 GMT


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
