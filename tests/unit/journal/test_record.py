from dataclasses import replace
from hashlib import sha256
from time import perf_counter

import pytest

from journal import GENESIS, ChainBroken, Entry, Record, StreamKey, canonical_json, verify_chain
from journal.record import EMPTY, chain, prepare

KEY = StreamKey("j-1", 2)


def records(number, key=KEY):
    entries = [Entry("E", 1, "A", "B", {"i": i}) for i in range(number)]
    return list(chain(key, EMPTY, prepare(entries), at_ns=5, boot_id="boot"))


def test_the_hash_is_what_the_documentation_says():
    first, second = records(2)
    text = 'j-1\n2\n1\n5\nboot\nE\n1\nA\nB\n{"i":0}'
    assert first.hash == sha256(bytes(32) + text.encode()).hexdigest()
    assert second.prev == first.hash
    assert first.prev == GENESIS


def test_a_golden_hash_never_changes():
    (record,) = chain(
        StreamKey("jöb", 1),
        EMPTY,
        prepare([Entry("E", 3, "A", "B", {"b": 1, "a": "é"})]),
        at_ns=1,
        boot_id="x",
    )
    assert record.data_json == '{"a":"\\u00e9","b":1}'
    expected = sha256(bytes(32) + 'jöb\n1\n1\n1\nx\nE\n3\nA\nB\n{"a":"\\u00e9","b":1}'.encode()).hexdigest()
    assert record.hash == expected


def test_canonical_json_has_one_form():
    assert (
        canonical_json({"b": [1, True, None], "a": {"d": 1.5, "c": "x"}})
        == '{"a":{"c":"x","d":1.5},"b":[1,true,null]}'
    )


def test_a_missing_record_is_named():
    stream = records(5)
    del stream[2]
    with pytest.raises(ChainBroken, match="record 3 is missing") as caught:
        verify_chain(stream)
    assert (caught.value.key, caught.value.seq) == (KEY, 4)


def test_a_missing_first_record_is_named():
    with pytest.raises(ChainBroken, match="record 1 is missing"):
        verify_chain(records(2)[1:])


def test_a_wrong_prev_is_named():
    stream = records(3)
    stream[1] = replace(stream[1], prev="1" * 64)
    with pytest.raises(ChainBroken, match="record 2: prev is not"):
        verify_chain(stream)


def test_a_rewritten_history_is_noticed_at_the_seam():
    stream = records(3)
    forged = list(chain(KEY, EMPTY, prepare([Entry("Forged", 1, "A", "B", {})]), at_ns=5, boot_id="boot"))
    with pytest.raises(ChainBroken, match="record 2: prev is not"):
        verify_chain([*forged, *stream[1:]])


def test_text_that_cannot_be_encoded_breaks_the_chain_and_nothing_else():
    stream = [replace(records(1)[0], event="\ud800")]
    with pytest.raises(ChainBroken, match="can't be encoded"):
        verify_chain(stream)


def test_streams_may_be_interleaved():
    other = StreamKey("j-2", 1)
    mixed = [r for pair in zip(records(3), records(3, other), strict=True) for r in pair]
    heads = verify_chain(mixed)
    assert {key: head.seq for key, head in heads.items()} == {KEY: 3, other: 3}


def test_a_rehash_is_fast():
    stream: list[Record] = []
    for i in range(2000):
        stream += records(10, StreamKey(f"j-{i}", 1))
    best = 0.0
    for _ in range(3):
        started = perf_counter()
        verify_chain(stream)
        best = max(best, len(stream) / (perf_counter() - started))
    print(f"rehash: {best:,.0f} records/s")
    # A tenth of what an idle machine does: this guards against another order of growth, not against a busy machine.
    assert best > 30_000
