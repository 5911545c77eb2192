"""Whatever is logged: one line, JSON, six fields, bounded, and no registered secret in it."""

import io
import json
import logging
import string
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from fsm_miner.config import Secret
from fsm_miner.log import RECORD_MAX, configure_logging
from fsm_miner.log_values import TEXT_MAX
from fsm_miner.redaction import Redactor

# No letter or bracket of the marker itself, so that a hit is a leak and not the marker beside an accident.
visible = "".join(sorted(set(string.printable) - set(string.whitespace) - set("[redacted]")))
secrets = st.text(visible, min_size=8, max_size=40)
scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30) | st.binary(max_size=10)
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=8), inner, max_size=4)
        | st.tuples(inner)
    ),
    max_leaves=15,
)


def logged(secret, as_json, write):
    stderr = io.StringIO()
    log = configure_logging(
        SimpleNamespace(level="debug", as_json=as_json, path=None),
        "node-1",
        Redactor([Secret(secret)]),
        stderr=stderr,
        environ={},
        bridge=logging.Logger("library"),
    )
    write(log.logger)
    log.close()
    assert log.dropped == 0
    return stderr.getvalue()


def fail(error, cause):
    raise error from cause


def strings(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)


@given(
    st.dictionaries(
        st.text(max_size=10).filter(lambda name: name not in ("self", "event")), values, max_size=5
    ),
    st.text(),
)
def test_every_record_is_one_line_of_json(attrs, event):
    text = logged("unrelated-secret", True, lambda log: log.info(event, **attrs))
    assert text.isascii()
    assert text.count("\n") == 1
    assert len(text) <= RECORD_MAX + 1
    assert list(json.loads(text)) == ["ts", "level", "node_id", "job_id", "event", "attrs"]


@st.composite
def leaking(draw):
    """A secret, and a value that holds it somewhere."""
    secret = draw(secrets)
    text = draw(st.text(max_size=20)) + secret + draw(st.text(max_size=20))
    shapes = [
        text,
        text.encode(errors="replace"),
        [text],
        {"k": {text: 1}},
        (1, {text}),
        SimpleNamespace(x=text),
        ValueError(text),
    ]
    return secret, draw(st.sampled_from(shapes)), text


@given(leaking(), st.booleans())
def test_no_registered_secret_is_ever_written(case, as_json):
    secret, value, text = case

    def write(log):
        log.info(text, job_id=text, value=value)
        try:
            fail(RuntimeError(text), ValueError(value))
        except RuntimeError:
            log.exception("x", value=[value])

    written = logged(secret, as_json, write)
    if not as_json:
        assert secret not in written
    else:
        for line in written.splitlines():
            for part in strings(json.loads(line)):
                assert secret not in part
                assert repr(secret)[1:-1] not in part


@given(secrets, st.integers(TEXT_MAX - 60, TEXT_MAX + 60))
def test_cutting_never_leaves_a_part_of_a_secret(secret, before):
    text = logged(secret, True, lambda log: log.info("x", value=" " * before + secret))
    whole = " " * before + "[redacted]"
    expected = whole if len(whole) <= TEXT_MAX else whole[:TEXT_MAX] + "...[cut]"
    assert json.loads(text)["attrs"]["value"] == expected
