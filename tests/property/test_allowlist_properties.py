import json
from functools import cache

from hypothesis import given
from hypothesis import strategies as st

from runners.allowlist_file import parse
from runners.allowlist_pattern import Pattern
from runners.allowlist_rule import ARGS_MAX, Rule

# Patterns over letters a to f only, each with a way to make arguments that match.
TOKENS = {
    "a": st.just("a"),
    "b": st.just("b"),
    "ab?": st.sampled_from(["a", "ab"]),
    "[cd]{1,3}": st.text("cd", min_size=1, max_size=3),
    "(e|ee|f)": st.sampled_from(["e", "ee", "f"]),
    "[a-f]*": st.text("abcdef", max_size=4),
}
GROUPS = st.lists(
    st.lists(st.sampled_from(sorted(TOKENS)), min_size=1, max_size=3).map(tuple), min_size=1, max_size=5
)


def rule_of(groups):
    return Rule("tool", "/bin/tool", tuple(tuple(map(Pattern.compile, group)) for group in groups))


@st.composite
def rules_and_rows(draw):
    groups = draw(GROUPS)
    rows = draw(st.lists(st.sampled_from(groups), max_size=20))
    return rule_of(groups), [draw(TOKENS[token]) for row in rows for token in row]


@given(rules_and_rows())
def test_whatever_is_made_of_groups_is_allowed(case):
    rule, args = case
    assert rule.refuse_args(args) is None


# At least one character outside a to f: no pattern above can match it.
FOREIGN = st.tuples(st.text(max_size=5), st.characters(exclude_characters="abcdef"), st.text(max_size=5)).map(
    "".join
)


@given(rules_and_rows(), FOREIGN, st.data())
def test_an_argument_that_no_pattern_knows_is_always_denied_in_words_for_a_terminal(case, foreign, data):
    rule, args = case
    at = data.draw(st.integers(0, len(args)))
    replaced = data.draw(st.booleans())
    reason = rule.refuse_args([*args[:at], foreign, *args[at + replaced :]])
    assert reason is not None
    assert reason.isascii()
    assert reason.isprintable()
    assert len(reason) <= 1_500


def splits(groups, args):
    """Say whether a cut exists, by trying all of them."""

    @cache
    def from_(start):
        if start == len(args):
            return True
        return any(
            start + len(group) <= len(args)
            and all(pattern.matches(args[start + n].encode()) for n, pattern in enumerate(group))
            and from_(start + len(group))
            for group in groups
        )

    return from_(0)


@given(GROUPS, st.lists(st.sampled_from(["a", "ab", "b", "c", "e", "x", ""]), max_size=8))
def test_a_cut_is_found_exactly_when_one_exists(groups, args):
    rule = rule_of(groups)
    assert (rule.refuse_args(args) is None) == splits(rule.groups, args)


@given(rules_and_rows(), st.integers(0, 60))
def test_the_length_limit_holds(case, limit):
    rule, args = case
    limited = Rule(rule.name, rule.path, rule.groups, max_total_args_len=limit)
    assert (limited.refuse_args(args) is None) == (sum(map(len, args)) <= limit)


@given(st.lists(st.text(max_size=3), max_size=8), st.integers(0, 1))
def test_any_text_at_all_gets_an_answer(args, extra):
    long = [*args, *(["a"] * ARGS_MAX * extra)]
    reason = Rule("tool", "/bin/tool", ((Pattern.compile("a+"),),)).refuse_args(long)
    allowed = len(long) <= ARGS_MAX and all(arg and set(arg) == {"a"} for arg in long)
    assert (reason is None) == allowed


GOOD = b"command: {path: /bin/x, name: x}\nargs:\n  - ['-i', '[a-z]+']\nmax_runtime_s: 5\nenv: [LANG]\n"


def problems_or_rule(raw):
    result = parse(raw, "f.yaml")
    if isinstance(result, Rule):
        assert result.name
        assert result.path.startswith("/")
        assert all(result.groups)
    else:
        assert result
        assert all(problem.startswith("f.yaml:") for problem in result)


@given(st.binary(max_size=200))
def test_any_bytes_give_a_rule_or_problems(raw):
    problems_or_rule(raw)


@given(
    st.integers(0, len(GOOD)),
    st.integers(0, 12),
    st.one_of(st.binary(max_size=6), st.text("[]{}:-&*!|>%@`'\"\\,#?\n \tU", max_size=6).map(str.encode)),
)
def test_a_damaged_file_gives_a_rule_or_problems(at, removed, put):
    problems_or_rule(GOOD[:at] + put + GOOD[at + removed :])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


@given(
    st.fixed_dictionaries(
        {}, optional=dict.fromkeys(("command", "args", "env", "max_runtime_s", "max_output_mb", "x"), JSON)
    )
)
def test_any_structure_gives_a_rule_or_problems(data):
    problems_or_rule(json.dumps(data, ensure_ascii=True).encode())
