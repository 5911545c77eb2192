"""Whatever a file holds, loading gives a configuration or a list of problems; and what is written reads back."""

import re
import string
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fsm_miner.config import Config, ConfigError, format_duration, parse_config, parse_duration
from fsm_miner.config.plain import keys_of, section_of
from fsm_miner.config.units import DURATION_MAX
from runners.yaml_lines import load_yaml

MACHINE = Path("/dev/null")  # no machine id: a configuration must name its node


def load(text):
    try:
        return parse_config(text, "config.yaml", Path("/etc"), MACHINE)
    except ConfigError as error:
        found = error
    assert all(problem.message and (problem.line or 0) >= 1 for problem in found.problems)
    assert all("\n" not in str(problem) for problem in found.problems)
    return found


def all_keys(model=Config):
    for key, field in keys_of(model).items():
        yield key
        section = section_of(field)
        if section is not None:
            yield from all_keys(section)


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=5)
    | st.dates()
)
keys = st.sampled_from(sorted(set(all_keys()))) | st.text(max_size=8)
nested = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=6),
    max_leaves=25,
)


@given(st.binary(max_size=300))
def test_arbitrary_bytes(content):
    assert isinstance(load(content), Config | ConfigError)


@given(st.text(alphabet=":-[]{}&*!|>?'\"%#\\ \n\tab01.~<U\x00\x85\ufeff", max_size=120))
def test_arbitrary_yaml(text):
    assert isinstance(load(text), Config | ConfigError)


@given(nested)
def test_arbitrary_data_under_our_own_keys(data):
    assert isinstance(load(yaml.safe_dump(data)), ConfigError)


@st.composite
def shaped(draw, model=Config):
    """Sections where sections belong, anything at their keys."""
    found = {}
    for key, field in keys_of(model).items():
        if draw(st.booleans()):
            section = section_of(field)
            found[key] = draw(nested if section is None else shaped(section) | nested)
    return found


@given(shaped())
def test_arbitrary_values_at_the_right_places(data):
    found = load(yaml.safe_dump(data))
    assert isinstance(found, Config | ConfigError)
    if isinstance(found, ConfigError):
        # Every message was written by us: nothing of the library's own wording comes through.
        assert "something else" not in str(found)


@given(st.timedeltas(min_value=timedelta(0), max_value=DURATION_MAX))
def test_durations_read_back(length):
    whole = length - timedelta(microseconds=length.microseconds)
    assert parse_duration(format_duration(length)) == whole


@given(st.text(alphabet=string.digits + "dhms .-", max_size=5))
def test_a_duration_is_read_or_refused(text):
    if re.fullmatch(r"(?=.)(\d+d)?(\d+h)?(\d+m)?(\d+s)?", text):
        assert timedelta(0) <= parse_duration(text) <= DURATION_MAX
    else:
        with pytest.raises(ValueError, match="must be a duration"):
            parse_duration(text)


plain_data = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**17), 10**17)
    | st.text(alphabet=string.printable, max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(string.ascii_letters, max_size=8), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(plain_data)
def test_plain_data_survives_yaml(data):
    text = yaml.safe_dump(data, default_style='"') if isinstance(data, str) else yaml.safe_dump(data)
    found, lines = load_yaml(text, "f.yaml", 1_000_000)
    assert found == data
    assert all(1 <= line <= text.count("\n") + 1 for line in lines.values())
