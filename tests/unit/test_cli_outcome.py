import pytest
import typer

from fsm_miner.cli.outcome import ExitCode, Refused, guarded


def ends_with(error, capsys):
    def command() -> int:
        raise error

    with pytest.raises(typer.Exit) as ended:
        guarded(command)()
    return ended.value.exit_code, capsys.readouterr().err


def test_a_refusal_is_one_sentence_and_its_exit_code(capsys):
    assert ends_with(Refused(ExitCode.HOST, "not here: use sudo"), capsys) == (
        3,
        "fsm-miner: not here: use sudo\n",
    )


def test_several_problems_stay_on_lines_of_their_own(capsys):
    assert ends_with(Refused(ExitCode.USAGE, "one\ntwo"), capsys)[1] == "fsm-miner: one\ntwo\n"


def test_no_words_of_others_steer_the_terminal(capsys):
    told = ends_with(Refused(ExitCode.NO, "there is no job \x1b[2J\u202e\x9b31m\rj-1"), capsys)[1]
    assert told == "fsm-miner: there is no job \\x1b[2J\\u202e\\x9b31m\\rj-1\n"
