import hashlib
import os

import pytest

from runners.allowlist import Allowed, Allowlist, Denied, Rule, load
from runners.allowlist_folder import FILES_MAX, FileUnreadable, folders, read_bounded


def write(path, command="/bin/echo", pattern="a"):
    path.write_text(f"command: {{path: {command}}}\nargs: [['{pattern}']]\n")
    return path


def names(loaded):
    return [rule.name for rule in loaded.allowlist.rules]


def test_files_folders_and_globs(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "x.yaml").mkdir()
    one = write(tmp_path / "one.yaml", "/bin/one")
    write(tmp_path / "d" / "b.yml", "/bin/b")
    write(tmp_path / "d" / "a.yaml", "/bin/a")
    write(tmp_path / "d" / ".hidden.yaml", "/bin/hidden")
    write(tmp_path / "d" / "a.yaml~", "/bin/backup")
    loaded = load(
        [str(one), str(tmp_path / "d"), str(tmp_path / "*" / "*.yaml"), str(tmp_path / "none" / "*.yaml")]
    )
    assert loaded.problems == ()
    assert names(loaded) == ["one", "a", "b"]
    assert loaded.sources[0].digest == hashlib.sha256(one.read_bytes()).hexdigest()


def test_an_empty_folder_is_no_problem_and_a_missing_file_is(tmp_path):
    (tmp_path / "empty").mkdir()
    assert load([str(tmp_path / "empty")]).problems == ()
    missing = tmp_path / "missing.yaml"
    assert load([str(missing)]).problems == (
        f"{missing}: no such file; create it, or take it out of the list",
    )
    assert load([]).allowlist == Allowlist()


def test_a_name_that_looks_like_a_glob_can_be_escaped(tmp_path):
    write(tmp_path / "a[1].yaml")
    assert names(load([str(tmp_path / "a[[]1].yaml")])) == ["echo"]


@pytest.mark.parametrize("second", ["/usr/bin/echo", "/bin/echo, name: other"])
def test_two_files_for_one_command_are_a_problem_that_names_both(tmp_path, second):
    a = write(tmp_path / "a.yaml", "/bin/echo", "a")
    b = write(tmp_path / "b.yaml", second, "b")
    loaded = load([str(tmp_path)])
    assert len(loaded.problems) == 1
    assert str(a) in loaded.problems[0]
    assert loaded.problems[0].startswith(f"{b}: ")
    assert isinstance(loaded.allowlist.judge("echo", ["a"]), Allowed)
    assert isinstance(loaded.allowlist.judge("echo", ["b"]), Denied)


def test_a_set_of_rules_with_two_for_one_name_cannot_be_made():
    with pytest.raises(AssertionError, match="two rules for x"):
        Allowlist((Rule("x", "/bin/x"), Rule("x", "/bin/y")))


def test_a_file_out_of_order_keeps_its_last_rule_and_the_others_change(tmp_path):
    a, b = write(tmp_path / "a.yaml", "/bin/a"), write(tmp_path / "b.yaml", "/bin/b")
    first = load([str(tmp_path)])
    a.write_text("command: {path: /bin/a}\nargs: [['(']]\n")
    write(b, "/bin/b", "new")
    second = load([str(tmp_path)], first)
    assert second.problems == (f"{a}:2: args[0][0]: not a regular expression: missing ): (",)
    assert isinstance(second.allowlist.judge("a", ["a"]), Allowed)
    assert isinstance(second.allowlist.judge("b", ["new"]), Allowed)
    third = load([str(tmp_path)], second)
    assert third == second
    assert load([str(tmp_path)]).allowlist.find("a") is None


def test_a_removed_file_takes_its_rule_along(tmp_path):
    a = write(tmp_path / "a.yaml")
    first = load([str(tmp_path)])
    a.unlink()
    assert load([str(tmp_path)], first) == load([str(tmp_path)])
    assert names(load([str(tmp_path)], first)) == []


def test_the_same_bytes_are_not_parsed_again(tmp_path):
    write(tmp_path / "a.yaml")
    first = load([str(tmp_path)])
    assert load([str(tmp_path)], first).sources[0] is first.sources[0]


@pytest.mark.timeout(10)
def test_a_pipe_is_not_waited_for(tmp_path):
    pipe = tmp_path / "p.yaml"
    os.mkfifo(pipe)
    assert load([str(pipe)]).problems == (f"{pipe}: not a regular file",)


def test_a_file_that_cannot_be_read_says_so(tmp_path):
    loop = tmp_path / "loop.yaml"
    loop.symlink_to(loop)
    with pytest.raises(FileUnreadable, match=r"loop\.yaml: cannot be read: Too many levels"):
        read_bounded(str(loop), 10)


def test_a_huge_file_is_not_read_whole(tmp_path):
    big = tmp_path / "big.yaml"
    with big.open("wb") as file:
        file.truncate(1 << 40)
    assert load([str(big)]).problems == (f"{big}:1: larger than 65536 bytes",)


def test_the_number_of_files_is_bounded(tmp_path):
    for n in range(FILES_MAX + 1):
        (tmp_path / f"{n:03}.yaml").write_text(f"command: {{path: /bin/x{n}}}")
    loaded = load([str(tmp_path)])
    assert len(loaded.sources) == FILES_MAX
    assert loaded.problems == ("257 allowlist files; only the first 256 are read",)


def test_the_folders_in_which_a_change_matters(tmp_path):
    (tmp_path / "d").mkdir()
    entries = [str(tmp_path / "x" / "a.yaml"), str(tmp_path / "d"), str(tmp_path / "g" / "*" / "*.yaml")]
    assert folders(entries) == tuple(sorted(str(tmp_path / name) for name in ("", "d", "g", "x")))


@pytest.mark.parametrize("command", ["echo", "/bin/echo"])
def test_a_command_is_known_by_its_name_and_its_path(tmp_path, command):
    allowlist = load([str(write(tmp_path / "a.yaml"))]).allowlist
    verdict = allowlist.judge(command, ["a"])
    assert isinstance(verdict, Allowed)
    assert verdict.rule.path == "/bin/echo"


@pytest.mark.parametrize(
    "command", ["", "bin/echo", "/usr/bin/echo", "./echo", "/bin/../bin/echo", "ECHO", "echo\n"]
)
def test_nothing_else_is_that_command(tmp_path, command):
    verdict = load([str(write(tmp_path / "a.yaml"))]).allowlist.judge(command, ["a"])
    assert isinstance(verdict, Denied)
    assert verdict.reason.endswith("(allowed: echo)")


def test_an_unknown_command_is_answered_with_the_nearest():
    allowlist = Allowlist((Rule("ffmpeg", "/usr/bin/ffmpeg"),))
    assert allowlist.judge("ffmpg", []) == Denied(
        'command: "ffmpg" is not allowed on this node; did you mean ffmpeg? (allowed: ffmpeg)'
    )
    assert allowlist.judge("\x1b" * 5000, []) != Allowed(allowlist.rules[0])
    assert Allowlist().judge("x", []) == Denied('command: "x" is not allowed on this node (allowed: none)')
