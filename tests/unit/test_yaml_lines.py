"""YAML with lines: what is read, what is refused, and on which line."""

import pytest

from runners.yaml_lines import DEPTH_MAX, YamlProblem, line_of, load_yaml


def refusal(text, max_bytes=10000):
    with pytest.raises(YamlProblem) as caught:
        load_yaml(text, "f.yaml", max_bytes)
    return str(caught.value)


def test_every_value_has_its_line():
    data, lines = load_yaml("# first\na: 1\nb:\n  - x\n  - {c: 2.5}\n", "f.yaml", 1000)
    assert data == {"a": 1, "b": ["x", {"c": 2.5}]}
    assert lines == {(): 1, ("a",): 2, ("b",): 3, ("b", 0): 4, ("b", 1): 5, ("b", 1, "c"): 5}
    assert line_of(lines, ("b", 1, "missing", 7)) == 5
    assert line_of(lines, ("missing",)) == 1


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("~", None),
        ("true", True),
        ("False", False),
        ("yes", "yes"),
        ("on", "on"),
        ("-12", -12),
        ("1_000", "1_000"),
        ("0x1f", "0x1f"),
        ("1:30", "1:30"),
        ("1.5e3", 1500.0),
        (".5", 0.5),
        (".inf", ".inf"),
        ("2025-09-26", "2025-09-26"),
        ("'12'", "12"),
        ("'true'", "true"),
        ("|\n  12\n", "12\n"),
        ("<<: x", {"<<": "x"}),
        (b"\xef\xbb\xbfa: b", {"a": "b"}),
    ],
)
def test_scalars_mean_what_they_look_like(text, value):
    data, _ = load_yaml(text, "f.yaml", 1000)
    assert data == value
    assert type(data) is type(value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\na: 2", 'f.yaml:2: duplicate key "a", first on line 1'),
        ("a:\n  b: 1\n  b: 1", 'f.yaml:3: duplicate key "b", first on line 2'),
        ("a: 1\nb: &x 1", "f.yaml:2: anchors and aliases"),
        ("a: *x", "f.yaml:1: anchors and aliases"),
        ("\n!!python/object:os.system x", "f.yaml:2: tags (!) are not supported"),
        ("! x", "f.yaml:1: tags (!)"),
        ("[" * 5000, f"f.yaml:1: nested more than {DEPTH_MAX} levels deep"),
        ("a: [1\n", "f.yaml:2: not YAML: "),
        ("a\n---\nb", "f.yaml:2: not YAML: expected a single document"),
        ('a: "\\UFFFFFFFF"', "f.yaml:1: not YAML"),
        ('"\\ud800"', "f.yaml:1: text must not hold"),
        ('a: 1\nb: "\\0"', "f.yaml:2: text must not hold NUL"),
        ("\ud800", "f.yaml:1: not text"),
        ("a: 1\n1: 2", "f.yaml:2: a key must be text"),
        ("? [a]\n: b", "f.yaml:1: a key must be text"),
        ("~: b", "f.yaml:1: a key must be text"),
        ("a: 9999999999999999999", "f.yaml:1: a number of more than 18 digits"),
        ("a: 1e999", "f.yaml:1: a number too large"),
        ("%YAML " + "1" * 5000 + ".1\n---\na", "f.yaml:1: not YAML"),
        ("a: 1\nb: \x01", "f.yaml:2: not YAML: a control character"),
        (b"a: 1\nb: \xff", "f.yaml:2: not UTF-8"),
        ("a" * 10001, "f.yaml:1: larger than 10000 bytes"),
        ("a: " + "\u00e9" * 5000, "f.yaml:1: larger than 10000 bytes"),
    ],
)
def test_what_is_not_plain_is_refused(text, said):
    assert refusal(text).startswith(said)


def test_the_deepest_that_is_accepted():
    data, _ = load_yaml("[" * DEPTH_MAX + "]" * DEPTH_MAX, "f.yaml", 1000)
    depth = 0
    while data:
        depth, data = depth + 1, data[0]
    assert depth == DEPTH_MAX - 1
