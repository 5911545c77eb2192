"""docs/upgrades.md says what the code does."""

from pathlib import Path

from fsm_miner import journal_check
from fsm_miner.cli.outcome import ExitCode
from fsm_miner.start import EXIT_ALREADY_RUNNING, EXIT_JOURNAL
from journal.schema import NEWEST
from journal.suspicion import suspect

TEXT = (Path(__file__).parents[2] / "docs/upgrades.md").read_text(encoding="utf-8")


def test_exit_codes():
    assert (EXIT_ALREADY_RUNNING, EXIT_JOURNAL) == (ExitCode.ALREADY_RUNNING, ExitCode.JOURNAL)
    assert f"Exit code {EXIT_JOURNAL}, and `journal_refused`" in TEXT
    assert f"exit code {EXIT_ALREADY_RUNNING}, naming its process" in TEXT


def test_when_everything_is_checked():
    assert (journal_check._FIRST_AFTER_S, journal_check._EVERY_S) == (3.0, 86400.0)
    assert "three seconds after the start, then once a day" in TEXT


def test_the_note_of_a_suspicion(tmp_path):
    suspect(tmp_path / "journal.db", "why")
    (note,) = tmp_path.iterdir()
    assert f"`{note.name}`" in TEXT


def test_the_newest_schema_is_spoken_of():
    assert f"Schema {NEWEST} came with" in TEXT
