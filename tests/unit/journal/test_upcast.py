import pytest

from journal import Entry, StreamKey, Upcasters, VersionUnknown
from journal.record import EMPTY, chain, prepare


def record(version):
    drafts = prepare([Entry("E", version, "A", "B", {"n": 1})])
    return chain(StreamKey("j", 1), EMPTY, drafts, at_ns=1, boot_id="b")[0]


def test_each_step_is_taken_in_order():
    up = Upcasters({("E", 2): lambda d: {"n": d["n"] * 10}, ("E", 1): lambda d: {"n": d["n"] + 1}})
    assert up.record(record(1)).data_json == '{"n":20}'
    assert up.record(record(2)).data_json == '{"n":10}'
    assert up.newest("E") == 3


def test_the_newest_version_is_left_alone():
    newest = record(1)
    assert Upcasters().record(newest) is newest


def test_a_later_version_is_an_error_that_says_what_to_do():
    with pytest.raises(VersionUnknown, match="E has version 4, this program knows 1: run the release"):
        Upcasters().record(record(4))


def test_a_hole_is_refused():
    with pytest.raises(ValueError, match="no upcaster takes E from version 1 to 2"):
        Upcasters({("E", 2): dict})
