"""The command line as a shell sees it: pipes, colour, help, usage, `probe`."""

import json
import os
import pty
import re
import subprocess
import sys

import pytest

from fsm_miner import __version__
from fsm_miner.cli.app import COMMANDS
from tests.support.cli_journal import alive, command, denied, environment, fsm_miner, succeeded, write_journal


def on_a_terminal(*words, **env):
    """What a command writes to a terminal."""
    mine, theirs = pty.openpty()
    process = subprocess.Popen(
        command(*words), stdin=theirs, stdout=theirs, stderr=theirs, env=environment(**env)
    )
    os.close(theirs)
    written = b""
    try:
        while chunk := os.read(mine, 65536):
            written += chunk
    except OSError:
        pass  # EIO: the other end is closed
    finally:
        os.close(mine)
        process.wait(timeout=30)
    return written.decode()


def test_version():
    done = fsm_miner("--version")
    assert (done.returncode, done.stdout) == (0, f"fsm-miner {__version__}\n")


def test_help_names_every_command_and_its_exit_codes():
    done = fsm_miner("--help")
    assert done.returncode == 0
    for name in COMMANDS:
        assert re.search(rf"^  {name} +[A-Z]", done.stdout, re.MULTILINE)
    assert "130  interrupted" in done.stdout
    assert "141  whoever read the output" in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_teaches(name):
    done = fsm_miner(name, "--help")
    assert done.returncode == 0
    assert f"fsm-miner {name}" in done.stdout.partition("Examples:")[2]
    assert "Exit codes:" in done.stdout
    assert "--config PATH" in done.stdout


@pytest.mark.parametrize(
    "words",
    [
        ("nonsense",),
        ("jobs", "--nonsense"),
        ("replay",),
        ("jobs", "--limit", "0"),
        ("jobs", "--state", "X"),
        ("drain", "--timeout", "x"),
    ],
)
def test_wrong_usage_is_2_and_on_standard_error(words):
    done = fsm_miner(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Error: " in done.stderr or done.stderr.startswith("fsm-miner: ")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("jobs", "--limit", "x"), "'--limit': x is not a whole number from 1 on."),
        (("jobs", "--limit", "9" * 5000), "9… is not a whole number from 1 on."),
        (("jobs", "--state", "x"), "'--state': x is none of IDLE, PULLING, "),
        (("why", "j-1", "--attempt", "0"), "'--attempt': 0 is not a whole number from 1 on."),
        (("replay", "j-1", "--at", "1.5"), "'--at': 1.5 is not a whole number from 1 on."),
        (("drain", "--timeout", "x"), "'--timeout': x is not a number of seconds."),
        (("drain", "--timeout", "nan"), "'--timeout': nan is not a number of seconds."),
        (
            ("verify", "--journal", "/no/such"),
            "fsm-miner: /no/such: there is no journal; a daemon makes its own",
        ),
        (
            ("jobs", "--config", "/no/such"),
            "fsm-miner: /no/such: can't be read: No such file or directory; --config or $FSM_MINER_CONFIG names",
        ),
    ],
)
def test_a_mistake_is_told_in_plain_words(words, complaint):
    told = fsm_miner(*words).stderr
    assert complaint in told
    for foreign in ("Input should", "Value error", "integer", "this configuration"):
        assert foreign not in told


@pytest.fixture
def journal(tmp_path):
    return write_journal(tmp_path / "journal.db", succeeded(), denied(), alive())


def test_colour_is_for_terminals(journal):
    words = ("jobs", "--journal", journal)
    assert "\x1b[32mDONE" in on_a_terminal(*words, TERM="xterm-256color")
    assert "\x1b[3" not in on_a_terminal(*words, TERM="xterm-256color", NO_COLOR="1")
    assert "\x1b" not in fsm_miner(*words, TERM="xterm-256color").stdout


def test_a_pipe_gets_whole_lines(journal):
    text = fsm_miner("replay", "j-1", "--journal", journal, COLUMNS="40").stdout
    assert "run 1: /usr/bin/echo, at most 1m00s, 256 MiB of memory, 10 MiB of output\n" in text
    assert not re.search(r" $", text, re.MULTILINE)


def test_verify_shows_progress_on_a_terminal_only(journal):
    assert "3 streams, 18 records" in on_a_terminal("verify", "--journal", journal, TERM="xterm")
    done = fsm_miner("verify", "--journal", journal)
    assert done.stderr == ""


def test_a_reader_that_has_seen_enough_is_no_error(journal):
    # More than a pipe holds, so that the writer is still writing when the reader leaves.
    writer = subprocess.Popen(
        [sys.executable, "-P", "-c", WRITER, *map(str, ("replay", "j-1", "--json", "--journal", journal))],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(),
    )  # fmt: skip
    writer.stdout.close()
    err = writer.stderr.read()
    writer.stderr.close()
    assert (writer.wait(timeout=30), err) == (141, b"")


OUTPUT_LOST = {
    "help": ("--help",),
    "help of a command": ("jobs", "--help"),
    "version": ("--version",),
    "probe": ("probe",),
    "check": ("check",),
    "check --journal": ("check", "--journal", "JOURNAL"),
    "judge": ("judge", "--", "ls"),
    "jobs": ("jobs", "--journal", "JOURNAL"),
    "why": ("why", "j-1", "--journal", "JOURNAL"),
    "replay": ("replay", "j-1", "--journal", "JOURNAL"),
    "replay --json": ("replay", "j-1", "--json", "--journal", "JOURNAL"),
    "replay --follow": ("replay", "j-1", "--follow", "--journal", "JOURNAL"),
    "replay --html": ("replay", "j-1", "--html", "-", "--journal", "JOURNAL"),
    "export": ("export", "j-1", "-o", "-", "--journal", "JOURNAL"),
    "backup": ("backup", "COPY", "--journal", "JOURNAL"),
    "verify": ("verify", "--journal", "JOURNAL"),
    "status": ("status",),
}


@pytest.mark.parametrize(
    ("shell", "why"),
    [('exec "$@" > /dev/full', "No space left on device"), ('exec "$@" >&-', "Bad file descriptor")],
    ids=["a full disk", "closed"],
)
@pytest.mark.parametrize("words", OUTPUT_LOST.values(), ids=OUTPUT_LOST)
def test_output_that_can_not_be_written_is_a_sentence_and_no_answer(journal, tmp_path, words, shell, why):
    config = tmp_path / "config.yaml"
    config.write_text(
        "coordinator: {base_url: 'https://c.example', auth_token: 'env:X'}\nnode_id: mine\n"
        f"workspace: {{root: {tmp_path}}}\njournal: {{path: {tmp_path}/state/journal.db}}\n"
    )
    named = {"JOURNAL": str(journal), "COPY": str(tmp_path / "copy.db")}
    done = subprocess.run(
        ["sh", "-c", shell, "sh", *command(*(named.get(word, word) for word in words))],
        stderr=subprocess.PIPE, text=True, check=False, timeout=60,
        env=environment(FSM_MINER_CONFIG=str(config)),
    )  # fmt: skip
    assert done.returncode == 3
    lines = [line for line in done.stderr.splitlines() if "output" in line]
    assert lines == [f"fsm-miner: standard output can't be written: {why}"]
    assert "Traceback" not in done.stderr


def test_streams_that_are_closed_are_no_trace(journal):
    """Nothing is read, nothing is heard of errors; the exit code is what it is."""
    for shell, words, code in (
        ('exec "$@" 2>&-', ("jobs", "--journal", journal), 0),
        ('exec "$@" 2>&-', ("jobs", "--journal", "/no/such"), 1),
        ('exec "$@" <&- >&- 2>&-', ("jobs", "--journal", journal), 3),
        ('exec "$@" <&-', ("why", "--bundle", "-"), 1),
    ):
        done = subprocess.run(
            ["sh", "-c", shell, "sh", *command(*words)],
            capture_output=True, text=True, check=False, timeout=60, env=environment(),
        )  # fmt: skip
        assert (done.returncode, "Traceback" in done.stderr) == (code, False), (words, done)
        assert bool(done.stdout) == (code == 0)


def test_help_that_nobody_reads_to_its_end_is_no_error():
    writer = subprocess.Popen(
        [sys.executable, "-P", "-c", WRITER, "--help"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(),
    )  # fmt: skip
    writer.stdout.close()
    err = writer.stderr.read()
    writer.stderr.close()
    assert (writer.wait(timeout=30), err) == (141, b"")


# Waits until nobody reads any more, then runs the command line.
WRITER = """
import select, sys
poll = select.poll()
poll.register(1, 0)
poll.poll()
from fsm_miner.cli import main
main(sys.argv[1:])
"""


def test_a_terminal_that_is_not_utf8_gets_escapes(journal):
    done = fsm_miner("replay", "j-1", "--journal", journal, PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert "IDLE \\u2192 PULLING" in done.stdout


def test_probe_works_without_a_configuration(tmp_path):
    done = fsm_miner("probe", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found.keys() == {
        "node_id", "version", "cpu", "memory_mb", "disk_free_mb", "gpu", "runners", "tags",
    }  # fmt: skip
    assert found["runners"] == ["cli", "python"]
    text = fsm_miner("probe").stdout
    assert f"memory     {found['memory_mb']} MiB" in text


def test_probe_uses_the_configuration(tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(
        "coordinator: {base_url: 'https://c.example', auth_token: 'env:X'}\nnode_id: mine\ntags: [fast]\n"
        f"workspace: {{root: {tmp_path}/not/yet}}\nrunners: {{python: {{enable: false}}}}\nsandbox: {{backend: none}}\n"
    )
    found = json.loads(fsm_miner("probe", "--json", "--config", config).stdout)
    assert (found["node_id"], found["runners"]) == ("mine", ["cli"])
    assert {"fast", "sandbox-none"} <= set(found["tags"])
    assert not (tmp_path / "not").exists()
    missing = fsm_miner("probe", "--config", tmp_path / "none.yaml")
    assert (missing.returncode, "none.yaml" in missing.stderr) == (2, True)


def test_a_command_imports_only_what_it_needs():
    code = (
        "import sys\nfrom fsm_miner.cli import main\n"
        "try:\n main(['jobs', '--journal', '/no/such/journal.db'])\nexcept SystemExit as end:\n"
        " print(end.code, 'fsm_miner.daemon' in sys.modules)"
    )
    words = [sys.executable, "-P", "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60, env=environment())
    assert done.stdout == "1 False\n"
