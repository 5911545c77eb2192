"""docs/allowlist.md: every key with its bounds and default, and a first rule that does what is said of it."""

import re
from pathlib import Path

import pytest

from runners import allowlist_file
from runners.allowlist_file import parse
from runners.allowlist_pattern import PATTERN_BYTES_MAX, Pattern, PatternProblem
from runners.allowlist_rule import ARGS_MAX, Rule

TEXT = (Path(__file__).parents[2] / "docs" / "allowlist.md").read_text(encoding="utf-8")
ROWS = {
    key: (kind, default, meaning)
    for key, kind, default, meaning in re.findall(
        r"^\| `([a-z_.]+)` \| (.+?) \| (.+?) \| (.+) \|$", TEXT, re.MULTILINE
    )
}
(FIRST,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)


def rule(text):
    found = parse(text.encode(), "rule.yaml")
    assert isinstance(found, Rule), found
    return found


def test_every_key_is_documented_and_no_other():
    keys = set(allowlist_file._KEYS) - {"command"}
    assert ROWS.keys() == keys | {f"command.{key}" for key in allowlist_file._COMMAND_KEYS}


def test_numbers_have_their_bounds_and_defaults():
    for key, (least, default, most) in allowlist_file._NUMBERS.items():
        assert ROWS[key][:2] == (f"whole number, {least} to {most}", f"`{default}`")


def test_what_may_be_left_out_is_what_is_said():
    bare = rule("command: {path: /usr/bin/true}")
    assert (bare.name, bare.groups, bare.env) == ("true", (), frozenset())
    assert ROWS["args"][1] == ROWS["env"][1] == "`[]`"
    assert ROWS["command.path"][1] == "needed"


def test_bounds_are_those_of_the_code():
    assert f"At most {allowlist_file.GROUPS_MAX} rows and {allowlist_file.TOKENS_MAX} patterns" in TEXT
    assert f"at most {allowlist_file._ENV_NAMES_MAX}. Those" in TEXT
    assert f"At most {ARGS_MAX} arguments" in TEXT
    assert f"at most {allowlist_file.FILE_BYTES_MAX // 1024} KiB" in TEXT
    assert f"at most {PATTERN_BYTES_MAX} bytes long" in TEXT


def test_a_repetition_of_more_than_a_thousand_is_refused():
    assert "repeats at most 1000 times" in TEXT
    Pattern.compile("a{1,1000}")
    with pytest.raises(PatternProblem):
        Pattern.compile("a{1,1001}")


@pytest.mark.parametrize("args", re.findall(r"`sort (.+?)`", TEXT.split("It refuses")[0]))
def test_the_first_rule_allows_what_it_says(args):
    assert rule(FIRST).refuse_args(args.split()) is None


@pytest.mark.parametrize("args", re.findall(r"`sort (.+?)`", TEXT.split("It refuses")[1]))
def test_the_first_rule_refuses_what_it_says(args):
    assert rule(FIRST).refuse_args(args.split()) is not None
