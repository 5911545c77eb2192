"""docs/cli.md says what the commands are; the commands say what docs/cli.md does."""

import re
from pathlib import Path

import pytest
import typer

import fsm_miner.__main__ as daemon
from fsm_miner.cli.app import COMMANDS, build
from fsm_miner.cli.options import CONFIG_DEFAULT
from fsm_miner.cli.outcome import BROKEN_PIPE, INTERRUPTED, ExitCode

TEXT = (Path(__file__).parents[2] / "docs/cli.md").read_text(encoding="utf-8")
GROUP = typer.main.get_command(build())
COMMON = {"--config", "--json", "--journal", "--help", "-h", "--version"}


def section(name):
    found = re.search(rf"^## {name}\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert found is not None, f"docs/cli.md has no section {name}"
    return found[1]


def options(command):
    return {name for one in command.params for name in one.opts if name.startswith("-")}


def test_every_command_has_its_section_in_order():
    assert tuple(re.findall(r"^## (.+)$", TEXT, re.MULTILINE)) == COMMANDS == tuple(GROUP.commands)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_section_has_an_example_and_every_option(name):
    text = section(name)
    assert re.search(rf"^    \$ .*fsm-miner {name}\b", text, re.MULTILINE)
    for option in options(GROUP.commands[name]) - COMMON:
        assert f"`{option}" in text, option
    written = set(re.findall(r"`(--[a-z-]+)", text))
    assert written <= options(GROUP.commands[name]) | COMMON


def test_what_commands_have_in_common_is_said_once():
    common = TEXT.partition("## run")[0]
    for option in COMMON - {"--help"}:
        assert f"`{option}" in common
    assert f"`{CONFIG_DEFAULT}`" in common


def test_which_commands_print_no_json_is_said():
    without = {name for name, one in GROUP.commands.items() if "--json" not in options(one)}
    said = re.search(r"in ASCII \(of every command but (.*)\)", TEXT)
    assert said is not None
    assert set(re.findall(r"`([a-z]+)`", said[1])) == without


def test_every_exit_code_is_in_the_table():
    codes = set(re.findall(r"\d+", " ".join(re.findall(r"^\| ([\d, ]+) \|", TEXT, re.MULTILINE))))
    assert codes == {str(int(code)) for code in [*ExitCode, INTERRUPTED, BROKEN_PIPE]}


def test_both_ways_to_start_the_daemon_read_the_same_file():
    assert str(CONFIG_DEFAULT) == daemon.CONFIG_DEFAULT
