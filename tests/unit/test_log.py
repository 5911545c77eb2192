"""Log records: their form, what is kept out of them, and what is taken over from libraries."""

import io
import json
import logging
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from fsm_miner.config import Secret
from fsm_miner.log import RECORD_MAX, configure_logging
from fsm_miner.log_values import DEPTH_MAX, ITEMS_MAX, TEXT_MAX
from fsm_miner.redaction import Redactor

NOW = datetime(2025, 9, 26, 12, 0, 0, 7, tzinfo=UTC)
TOKEN = "hunter2-hunter2"


def fail(error):
    raise error


class Terminal(io.StringIO):
    """A text stream that claims to be a terminal."""

    def isatty(self):
        return True


@pytest.fixture
def start():
    """Set logging up on a library logger of this test's own; take it down afterwards."""
    made = []

    def run(
        level="info", *, as_json=True, path: Path | None = None, terminal=False, environ=None, secrets=()
    ):
        stderr = Terminal() if terminal else io.StringIO()
        library = logging.Logger("library")
        log = configure_logging(
            SimpleNamespace(level=level, as_json=as_json, path=path),
            "node-1",
            Redactor(secrets),
            stderr=stderr,
            environ=environ or {},
            bridge=library,
            now=lambda: NOW,
            monotonic=lambda: 0.0,
        )
        made.append(log)
        return SimpleNamespace(log=log, logger=log.logger, stderr=stderr, library=library)

    yield run
    for log in made:
        log.close()


def records(stderr):
    return [json.loads(line) for line in stderr.getvalue().splitlines()]


def test_a_record_has_exactly_the_fields_of_the_specification(start):
    one = start()
    one.logger.info("node.started", version="0.1.0")
    one.logger.bind(job_id="j-1", attempt=2).warning("job.slow", level="x", ts=1, node_id="other")
    first, second = records(one.stderr)
    assert list(first) == ["ts", "level", "node_id", "job_id", "event", "attrs"]
    assert first == {
        "ts": "2025-09-26T12:00:00.000007Z",
        "level": "info",
        "node_id": "node-1",
        "job_id": None,
        "event": "node.started",
        "attrs": {"version": "0.1.0"},
    }
    assert (second["job_id"], second["level"]) == ("j-1", "warning")
    assert second["attrs"] == {"attempt": 2, "level": "x", "ts": 1, "node_id": "other"}


@pytest.mark.parametrize(
    ("level", "said"),
    [
        ("debug", ["debug", "info", "warning", "error", "critical"]),
        ("warning", ["warning", "error", "critical"]),
    ],
)
def test_what_is_below_the_level_is_left_out(start, level, said):
    one = start(level)
    for name in ("debug", "info", "warning", "error", "critical"):
        getattr(one.logger, name)("x")
    assert [record["level"] for record in records(one.stderr)] == said


def test_values_become_json_and_are_bounded(start):
    class Broken:
        def __repr__(self):
            raise RuntimeError("no")

    class BrokenDict(dict):
        def items(self):
            raise RuntimeError("no")

        __len__ = None

    deep = current = []
    for _ in range(100):
        current.append([])
        current = current[0]
    one = start()
    one.logger.info(
        "x",
        path=Path("/a"),
        raw=b"\xff",
        nan=float("nan"),
        huge=10**5000,
        text="y" * (TEXT_MAX + 1),
        many=list(range(ITEMS_MAX + 1)),
        deep=deep,
        broken=Broken(),
        broken_dict=BrokenDict(a=1),
        keys={1: "one", None: 2},
        lone="\ud800",
        control="\x1b[2J\r\n\u2028",
    )
    (record,) = records(one.stderr)
    attrs = record["attrs"]
    assert attrs["path"] == "PosixPath('/a')"
    assert attrs["raw"] == "b'\\xff'"
    assert attrs["nan"] == "nan"
    assert attrs["huge"] == "<a whole number of 16610 bits>"
    assert attrs["text"] == "y" * TEXT_MAX + "...[cut]"
    assert attrs["many"] == [*range(ITEMS_MAX), "...[cut]"]
    assert json.dumps(attrs["deep"]).count("[") <= DEPTH_MAX
    assert attrs["broken"] == "<Broken that cannot be shown: RuntimeError>"
    assert attrs["broken_dict"] == "<BrokenDict that cannot be shown: RuntimeError>"
    assert attrs["keys"] == {"1": "one", "None": 2}
    assert attrs["control"] == "\x1b[2J\r\n\u2028"
    assert one.stderr.getvalue().isascii()
    assert one.stderr.getvalue().count("\n") == 1


def test_a_record_that_is_too_large_keeps_its_names(start):
    one = start()
    one.logger.info("x", **{f"attr{n}": "y" * TEXT_MAX for n in range(20)})
    (record,) = records(one.stderr)
    assert record["attrs"]["names"][:2] == ["attr0", "attr1"]
    assert record["attrs"]["oversized"] > RECORD_MAX
    assert len(one.stderr.getvalue()) < RECORD_MAX


def test_an_exception_comes_with_its_traceback(start):
    one = start()
    try:
        fail(ValueError("broken here"))
    except ValueError as error:
        one.logger.exception("x")
        kept = error
    one.logger.error("y", exc_info=kept)
    one.logger.error("z", exc_info=True)
    first, second, third = records(one.stderr)
    for record in (first, second):
        assert record["level"] == "error"
        assert record["attrs"]["exc"].startswith("Traceback")
        assert record["attrs"]["exc"].endswith("ValueError: broken here")
        assert "exc_info" not in record["attrs"]
    assert third["attrs"] == {}


def test_a_long_traceback_keeps_its_end(start):
    one = start()
    try:
        fail(ValueError("x" * 50000 + " the end"))
    except ValueError:
        one.logger.exception("x")
    exc = records(one.stderr)[0]["attrs"]["exc"]
    assert exc.endswith("the end")
    assert len(exc) <= TEXT_MAX + 10


def test_secrets_are_replaced_everywhere(start):
    one = start(secrets=[Secret(TOKEN), Secret('quo"te\\d'), Secret("12345678"), Secret("")])
    try:
        fail(ValueError(f"Bearer {TOKEN} refused"))
    except ValueError:
        one.logger.exception(
            f"event {TOKEN}",
            job_id=TOKEN,
            header=[{"Authorization": f"Bearer {TOKEN}"}],
            shown=Secret(TOKEN),
            raw=TOKEN.encode(),
            quoted={"x": ('quo"te\\d',)},
            in_repr=SimpleNamespace(a='quo"te\\d'),
            number=12345678,
            cut="y" * (TEXT_MAX - 5) + TOKEN,
            **{TOKEN: 1},
        )
    one.library.warning("to %s", TOKEN)
    text = one.stderr.getvalue()
    assert TOKEN not in text
    assert "hunter2" not in text
    assert "te\\\\" not in text
    assert "12345678" not in text
    assert records(one.stderr)[0]["attrs"]["header"] == [{"Authorization": "Bearer [redacted]"}]
    assert "ValueError: Bearer [redacted] refused" in records(one.stderr)[0]["attrs"]["exc"]


def test_a_secret_may_be_registered_later():
    redactor = Redactor()
    assert redactor.redact(TOKEN) == TOKEN
    redactor.add(Secret("hunter2"))
    redactor.add(Secret(TOKEN))
    assert redactor.redact(f"a {TOKEN} b hunter2") == "a [redacted] b [redacted]"
    assert redactor.redact("a%2Fb") == "a%2Fb"
    redactor.add(Secret("a/b"))
    assert redactor.redact("?t=a%2Fb") == "?t=[redacted]"


def test_what_libraries_warn_of_arrives_and_the_rest_does_not(start):
    one = start()
    one.library.info("every request")
    one.library.warning("slow: %d s", 3)
    one.library.error("broken format %d", "x")
    try:
        fail(OSError("gone"))
    except OSError:
        one.library.exception("failed")
    first, second, third = records(one.stderr)
    assert first["event"] == "library.log"
    assert first["level"] == "warning"
    assert first["attrs"] == {"logger": "library", "message": "slow: 3 s"}
    assert second["attrs"]["format_error"] == "TypeError"
    assert third["level"] == "error"
    assert "OSError: gone" in third["attrs"]["exc"]


def test_closing_takes_the_bridge_down(start):
    one = start()
    one.log.close()
    assert one.library.handlers == []


def test_people_get_a_line_to_read(start):
    one = start(as_json=False)
    one.logger.bind(job_id="j-1").info("job.acked", lease_s=60, note="two words", bad="\x1b[2J\n")
    assert one.stderr.getvalue() == (
        '2025-09-26T12:00:00.000007Z info     job.acked job_id=j-1 lease_s=60 note="two words" bad="\\u001b[2J\\n"\n'
    )


def test_a_traceback_stands_below_the_line_and_cannot_move_the_cursor(start):
    one = start(as_json=False)
    try:
        fail(ValueError('a "quoted" \x1b[2J word'))
    except ValueError:
        one.logger.exception("x")
    lines = one.stderr.getvalue().splitlines()
    assert lines[1] == "    Traceback (most recent call last):"
    assert lines[-1] == '    ValueError: a "quoted" \\u001b[2J word'
    assert "\x1b" not in one.stderr.getvalue()


@pytest.mark.parametrize(
    ("terminal", "environ", "coloured"),
    [
        (True, {}, True),
        (False, {}, False),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"TERM": "dumb"}, False),
    ],
)
def test_colour_is_for_terminals(start, terminal, environ, coloured):
    one = start(as_json=False, terminal=terminal, environ=environ)
    one.logger.info("x")
    assert ("\x1b[32m" in one.stderr.getvalue()) is coloured


def test_two_logs_do_not_share_their_settings(start):
    one = start()
    one.logger.info("x")
    other = start("error")
    other.logger.info("y")
    one.logger.info("z")
    assert [record["event"] for record in records(one.stderr)] == ["x", "z"]
    assert other.stderr.getvalue() == ""
