import pytest

from runners.allowlist_file import FILE_BYTES_MAX, parse
from runners.allowlist_rule import Rule

SPEC = r"""
command:
  path: "/usr/bin/ffmpeg"
args:
  - ["-y"]
  - ["-i", ".+\\.(mp4|wav|mkv)$"]
  - ["-c:v", "(libx264|copy)"]
  - ["-c:a", "(aac|copy)"]
  - ["-b:v", "[1-9][0-9]{2,5}k"]
  - ["output\\.(mp4|mkv)"]
max_total_args_len: 4096
max_runtime_s: 7200
max_output_mb: 5000
"""


def read(text):
    return parse(text.encode() if isinstance(text, str) else text, "a.yaml")


def test_the_example_of_the_specification():
    rule = read(SPEC)
    assert isinstance(rule, Rule)
    assert (rule.name, rule.path, rule.source) == ("ffmpeg", "/usr/bin/ffmpeg", "a.yaml")
    assert (rule.max_total_args_len, rule.max_runtime_s, rule.max_output_mb) == (4096, 7200, 5000)
    assert [len(group) for group in rule.groups] == [1, 2, 2, 2, 2, 1]
    assert rule.refuse_args(["-y", "-i", "input1.mp4", "-c:v", "libx264", "output.mp4"]) is None


def test_everything_but_the_path_has_a_default():
    rule = read("command: {path: /bin/true}")
    assert rule == Rule(
        "true",
        "/bin/true",
        (),
        max_total_args_len=4096,
        max_runtime_s=3600,
        max_output_mb=1000,
        source="a.yaml",
    )


def test_a_name_and_environment_variables_can_be_given():
    rule = read("command: {path: /bin/true, name: yes-man}\nenv: [OMP_NUM_THREADS, LANG]")
    assert isinstance(rule, Rule)
    assert rule.name == "yes-man"
    assert rule.env == {"OMP_NUM_THREADS", "LANG"}


HEAD = "command: {path: /bin/x}\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "a.yaml:1: the file must be a mapping that begins with `command:`"),
        ("[]", "a.yaml:1: the file must be a mapping"),
        ("args: []", "a.yaml:1: command: missing; write `command: {path: /usr/bin/...}`"),
        ("command: /bin/x", "a.yaml:1: command: missing; write"),
        ("command:\n  name: x", "a.yaml:1: command.path: must be the program's absolute path"),
        ("command:\n  path: bin/x", "a.yaml:2: command.path: must be"),
        ("command: {path: /bin/../x}", "a.yaml:1: command.path: must be"),
        ("command: {path: /bin/./x}", "a.yaml:1: command.path: must be"),
        ("command: {path: /bin//x}", "a.yaml:1: command.path: must be"),
        ("command: {path: /bin/}", "a.yaml:1: command.path: must be"),
        ('command: {path: "/bin/x\\n"}', "a.yaml:1: command.path: must be"),
        ("command: {path: 5}", "a.yaml:1: command.path: must be"),
        ("command: {path: /bin/x, name: a/b}", "a.yaml:1: command.name: must be 1 to 64"),
        ("command: {path: /bin/x, name: -x}", "a.yaml:1: command.name: must be 1 to 64"),
        ("command:\n  path: /bin/x\n  nam: x", "a.yaml:3: command.nam: unknown key; did you mean name?"),
        (HEAD + "arg: []", "a.yaml:2: arg: unknown key; did you mean args?"),
        (HEAD + "max_runtime: 5", "a.yaml:2: max_runtime: unknown key; did you mean max_runtime_s?"),
        (HEAD + "zzz: 5", "a.yaml:2: zzz: unknown key; known are: command, args, max_total"),
        (HEAD + '"\\e[1m": 5', 'a.yaml:2: "\\u001b[1m": unknown key'),
        (HEAD + "args: -y", 'a.yaml:2: args: must be a list of groups, such as `- ["-i", "[a-z]+"]`'),
        (HEAD + "args:\n  - -y", "a.yaml:3: args[0]: must be a list of at least one pattern"),
        (HEAD + "args:\n  - [a]\n  - []", "a.yaml:4: args[1]: must be a list of at least one pattern"),
        (
            HEAD + "args:\n  - [a]\n  - [b, 5]",
            "a.yaml:4: args[1][1]: a pattern must be text; put it in quotes",
        ),
        (HEAD + "args:\n  - [true]", "a.yaml:3: args[0][0]: a pattern must be text"),
        (
            HEAD + "args:\n  - [a]\n  -\n    - b\n    - '(c'",
            "a.yaml:6: args[1][1]: not a regular expression: missing ): (c",
        ),
        (HEAD + "args:\n" + "  - [a]\n" * 257, "a.yaml:2: args: 257 groups; at most 256 are allowed"),
        (HEAD + "args: [[" + "a," * 1025 + "]]", "a.yaml:2: args: 1025 patterns; at most 1024 are allowed"),
        (HEAD + "max_runtime_s: 0", "a.yaml:2: max_runtime_s: must be a whole number from 1 to 2592000"),
        (HEAD + "max_runtime_s: true", "a.yaml:2: max_runtime_s: must be a whole number"),
        (HEAD + "max_runtime_s: 2h", "a.yaml:2: max_runtime_s: must be a whole number"),
        (HEAD + "max_output_mb: -1", "a.yaml:2: max_output_mb: must be a whole number"),
        (HEAD + "max_output_mb: 1.5", "a.yaml:2: max_output_mb: must be a whole number"),
        (HEAD + "max_total_args_len: 999999", "a.yaml:2: max_total_args_len: must be a whole number"),
        (HEAD + "env: LANG", "a.yaml:2: env: must be a list of variable names"),
        (HEAD + "env: [LANG, A=B]", "a.yaml:2: env[1]: must be the name of an environment variable"),
        (HEAD + "env: [7]", "a.yaml:2: env[0]: must be the name"),
        (HEAD + "env: [[a]]", "a.yaml:2: env[0]: must be the name"),
        (HEAD + "env: [" + "A," * 65 + "]", "a.yaml:2: env: 65 names; at most 64 are allowed"),
        (HEAD + "args: [[a]]\nargs: [[b]]", "a.yaml:3: duplicate key"),
        (HEAD + "args: &a [[a]]", "a.yaml:2: anchors and aliases"),
        (HEAD + "args: *a", "a.yaml:2: anchors and aliases"),
        (HEAD + "args: !!python/object/apply:os.system [x]", "a.yaml:2: tags"),
        (HEAD + "args: [[a]", "a.yaml:"),
        (HEAD + "--- {}", "a.yaml:2: "),
        (b"\xff", "a.yaml:1: not UTF-8"),
        (b"#" * (FILE_BYTES_MAX + 1), "a.yaml:1: larger than 65536 bytes"),
    ],
)
def test_a_problem_names_the_line_and_what_to_do(text, told):
    problems = read(text)
    assert not isinstance(problems, Rule)
    assert problems[0].startswith(told), problems


@pytest.mark.parametrize(
    "name",
    ["LD_PRELOAD", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONSTARTUP", "PATH", "ld_preload", "BASH_ENV", "ENV", "IFS",
     "HOME", "PERL5LIB", "NODE_OPTIONS", "GCONV_PATH", "CUDA_VISIBLE_DEVICES", "_JAVA_OPTIONS", "GLIBC_TUNABLES"],
)  # fmt: skip
def test_variables_that_choose_the_code_are_never_allowed(name):
    assert read(HEAD + f"env: [{name}]") == (
        f'a.yaml:2: env[0]: "{name}" decides which code or device is used, so no job may set it; remove it',
    )


def test_all_problems_are_told_at_once_and_not_too_many():
    problems = read("command: {path: x}\nargs: [['('], [')']]\nmax_runtime_s: no")
    assert [problem.split(": ")[0] for problem in problems] == [
        "a.yaml:1",
        "a.yaml:2",
        "a.yaml:2",
        "a.yaml:3",
    ]
    assert len(read(HEAD + "args: [" + "['('], " * 100 + "]")) == 20


def test_an_alias_bomb_is_harmless():
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{b}: &{b} [{','.join('*' + a for _ in range(9))}]\n"
        for a, b in zip("abcdefghi", "bcdefghij", strict=True)
    )
    assert read(bomb) == ("a.yaml:1: anchors and aliases (& and *) are not supported; write the value out",)


def test_deep_nesting_is_a_problem():
    problems = read(HEAD + "args: " + "[" * 5_000)
    assert not isinstance(problems, Rule)
    assert "nested more than" in problems[0]
