import pytest

from runners.allowlist_pattern import PATTERN_BYTES_MAX, Pattern, PatternProblem
from runners.allowlist_rule import ARGS_MAX, Rule, shown


class CountedPattern:
    """Counts how often it is asked; stands where RE2's compiled pattern stands."""

    def __init__(self, matching):
        self.matching = matching
        self.asked = 0

    def fullmatch(self, text):
        self.asked += 1
        return self if text == self.matching else None


def rule(*groups, **limits):
    compiled = tuple(tuple(Pattern.compile(token) for token in group) for group in groups)
    return Rule(name="tool", path="/usr/bin/tool", groups=compiled, **limits)


SPEC = rule(
    ["-y"],
    ["-i", ".+\\.(mp4|wav|mkv)$"],
    ["-c:v", "(libx264|copy)"],
    ["-b:v", "[1-9][0-9]{2,5}k"],
    ["output\\.(mp4|mkv)"],
)


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["-y"],
        ["-y", "-y"],
        ["-y", "-i", "input1.mp4", "-c:v", "libx264", "output.mp4"],
        ["output.mkv", "-b:v", "500k", "-y"],
        ["-i", "-y.mp4"],
    ],
)
def test_rows_of_groups_are_allowed_in_any_order_and_number(args):
    assert SPEC.refuse_args(args) is None


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["-x"], 'args[0]: "-x" is not allowed; tool takes groups of: [-y] [-i '),
        (["-y", "-x"], 'args[1]: "-x" is not allowed after "-y"; tool'),
        (["-i"], 'args: the list ends after "-i", where tool takes [-i '),
        (
            ["-y", "-c:v", "hevc"],
            'args[2]: "hevc" is not allowed after "-c:v", where tool takes [-c:v (libx264',
        ),
        (["-i", "a.mp4\n"], 'args[1]: "a.mp4\\n" is not allowed'),
        (["-i", "a\nb.mp4"], "args[1]"),
        (["-y\n"], "args[0]"),
        (["x-y"], "args[0]"),
        ([""], 'args[0]: "" is not allowed'),
        (["-y\0"], 'args[0]: "-y\\u0000" holds a NUL'),
        (["-y", "\ud800"], 'args[1]: "\\ud800" is not text'),
        (["-b:v", "500k", "-i", "a.exe", "output.mp4"], 'args[3]: "a.exe"'),
    ],
)
def test_a_refusal_names_the_argument_and_what_would_do(args, told):
    reason = SPEC.refuse_args(args)
    assert reason is not None
    assert reason.startswith(told)


def test_a_rule_without_groups_takes_no_arguments():
    assert rule().refuse_args([]) is None
    assert rule().refuse_args(["x"]) == 'args[0]: "x" is not allowed; tool takes groups of: no arguments'


def test_a_cut_is_found_where_the_longest_or_the_first_group_would_fail():
    tool = rule(["a", "b"], ["a"], ["b", "c"])
    assert tool.refuse_args(["a", "b", "c"]) is None
    assert tool.refuse_args(["a", "b", "a", "b", "c"]) is None
    assert tool.refuse_args(["b"]) is not None


@pytest.mark.parametrize(
    ("args", "fits"), [(["ab", "cd"], True), (["äb", "cd"], False), (["abcde"], False), (["", ""], True)]
)
def test_the_length_of_all_arguments_is_counted_in_bytes(args, fits):
    reason = rule([".*"], max_total_args_len=4).refuse_args(args)
    assert (reason is None) is fits
    if not fits:
        assert "max_total_args_len" in reason


def test_the_number_of_arguments_is_bounded():
    assert rule(["a"]).refuse_args(["a"] * ARGS_MAX) is None
    assert rule(["a"]).refuse_args(["a"] * (ARGS_MAX + 1)) == "args: 513 arguments; at most 512 are allowed"


def test_a_reason_is_short_and_ascii_whatever_the_job_sends():
    many = rule(*([f"token{n}" * 10] for n in range(200)))
    reason = many.refuse_args(["\x1b[31m\u202e" + "ä" * 4000][:1])
    assert reason is not None
    assert len(reason) <= 1_500
    assert reason.isascii()
    assert reason.isprintable()


def test_each_pattern_sees_each_argument_once_where_backtracking_would_explode():
    # Every argument fits [a], [a a] and [a a a]: 1.8^100 cuts, and none of them leads over the last argument.
    engine = CountedPattern(b"a")
    token = Pattern("a", engine)
    tool = Rule(name="tool", path="/usr/bin/tool", groups=((token,), (token, token), (token, token, token)))
    assert tool.refuse_args(["a"] * 100 + ["b"]) is not None
    assert engine.asked == 101


def test_steps_grow_linearly_with_the_arguments():
    asked = []
    for count in (100, 200, 400):
        engines = [CountedPattern(b"a"), CountedPattern(b"b"), CountedPattern(b"c")]
        one, two, three = (Pattern(name, engine) for name, engine in zip("123", engines, strict=True))
        tool = Rule(name="t", path="/t", groups=((one,), (two, one), (three, two, one)))
        assert tool.refuse_args(["a"] * count) is None
        asked.append(sum(engine.asked for engine in engines))
    assert asked == [300, 600, 1200]


def test_env_names_are_only_those_listed():
    tool = rule(env=frozenset({"OMP_NUM_THREADS"}))
    assert tool.refuse_env([]) is None
    assert tool.refuse_env(["OMP_NUM_THREADS"]) is None
    assert tool.refuse_env(["OMP_NUM_THREADS", "LD_PRELOAD"]) == (
        'env: "LD_PRELOAD" may not be set for tool; this node allows: OMP_NUM_THREADS'
    )
    assert rule().refuse_env(["A"]) == 'env: "A" may not be set for tool; this node allows: none'


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("(", "not a regular expression: missing )"),
        ("a**", "not a regular expression: bad repetition"),
        ("(a)\\1", "not a regular expression: invalid escape"),
        ("(?=a)", "not a regular expression: invalid perl operator"),
        ("((((a{100}){100}){100}){100})", "not a regular expression: invalid repetition size"),
        ("(\\pL{900}\\pN{900})", "not a regular expression: pattern too large"),
        ("a" * (PATTERN_BYTES_MAX + 1), "longer than 2000 bytes"),
        ("\ud800", "not text"),
    ],
)
def test_a_pattern_that_cannot_be_used_says_why(text, why):
    with pytest.raises(PatternProblem) as caught:
        Pattern.compile(text)
    assert str(caught.value).startswith(why)


@pytest.mark.parametrize(
    ("text", "argument", "fits"),
    [
        ("a", "a", True),
        ("a", "aa", False),
        ("a|ab", "ab", True),
        ("a$", "a\n", False),
        ("^a$", "a", True),
        (".", "\n", False),
        (".", "ä", True),
        ("[a-z]+", "abc\nabc", False),
        ("", "", True),
    ],
)
def test_a_pattern_matches_the_whole_argument(text, argument, fits):
    assert Pattern.compile(text).matches(argument.encode()) is fits


def test_patterns_are_equal_by_their_text():
    assert Pattern.compile("a") == Pattern.compile("a")
    assert Pattern.compile("a") != Pattern.compile("b")


def test_a_pattern_that_would_explode_elsewhere_is_answered():
    assert not Pattern.compile("(a*)*b").matches(b"a" * 100_000)


def test_what_is_shown_is_short_and_escaped():
    assert shown("a\n\x1b") == '"a\\n\\u001b"'
    assert shown("x" * 61) == '"' + "x" * 60 + '..."'
