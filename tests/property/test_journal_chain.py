"""What holds for every chain: no changed field goes unnoticed, and the first bad record is named."""

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journal import ChainBroken, Entry, Record, StreamKey, verify_chain
from journal.record import EMPTY, chain, prepare

NAMES = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
ENTRIES = st.builds(
    Entry, NAMES, st.integers(1, 9), NAMES, NAMES, st.dictionaries(st.text(max_size=8), JSON, max_size=3)
)


def streams(shortest):
    return st.builds(
        lambda job, attempt, entries, at_ns: list(
            chain(StreamKey(job, attempt), EMPTY, prepare(entries), at_ns=at_ns, boot_id="boot")
        ),
        NAMES,
        st.integers(0, 99),
        st.lists(ENTRIES, min_size=shortest, max_size=6),
        st.integers(0, 2**62),
    )


FIELDS = [field.name for field in fields(Record)]


@given(streams(1))
def test_what_was_chained_verifies(stream):
    assert verify_chain(stream)[stream[0].key].seq == len(stream)


@given(streams(1), st.data())
def test_any_changed_field_is_named(stream, data):
    index = data.draw(st.integers(0, len(stream) - 1))
    name = data.draw(st.sampled_from(FIELDS))
    old = getattr(stream[index], name)
    if isinstance(old, int):
        new = data.draw(st.integers(0, 2**62).filter(lambda v: v != old))
    else:
        place = data.draw(st.integers(0, len(old) - 1))
        alphabet = "0123456789abcdef" if name in ("prev", "hash") else None
        letter = data.draw(
            st.sampled_from(alphabet) if alphabet else st.characters(exclude_categories=["Cs"])
        )
        new = old[:place] + letter + old[place + 1 :]
    if new == old:
        return
    changed = [*stream]
    changed[index] = replace(stream[index], **{name: new})
    with pytest.raises(ChainBroken) as caught:
        verify_chain(changed)
    # The record itself is named, unless it now claims to be of another stream: then that name is told.
    assert caught.value.key == changed[index].key
    assert caught.value.seq == changed[index].seq


@given(streams(2), st.data())
def test_no_record_but_the_last_can_vanish_or_change_places(stream, data):
    index = data.draw(st.integers(0, len(stream) - 2))
    with pytest.raises(ChainBroken):
        verify_chain(stream[:index] + stream[index + 1 :])
    swapped = [*stream]
    swapped[index], swapped[index + 1] = swapped[index + 1], swapped[index]
    with pytest.raises(ChainBroken):
        verify_chain(swapped)
