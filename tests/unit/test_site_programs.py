"""Which programs a job can run here: the answer is the sandbox's own, and it says what to do."""

import shutil
import subprocess
from pathlib import Path

import pytest

from fsm_miner.config import parse_config
from fsm_miner.site.programs import Programs
from runners.host import HostTools, probe_host
from runners.run import Bind
from runners.sandbox import _bind_options
from tests.support.needs import lacking

TEXT = (Path(__file__).parents[2] / "docs" / "allowlist.md").read_text(encoding="utf-8")
CONFIG = "coordinator: {base_url: 'http://127.0.0.1:1/api/v1', auth_token: 'env:MINER_AUTH'}\n"


def programs(*extra, backend="bubblewrap"):
    text = f"{CONFIG}sandbox: {{backend: {backend}, extra_ro_binds: {[str(path) for path in extra]}}}\n"
    return Programs(parse_config(text, "config.yaml", Path("/")))


@pytest.fixture
def mine(tmp_path):
    """A program of the administrator's own, outside of the system's folders."""
    (tmp_path / "tool").mkdir()
    return Path(shutil.copy("/usr/bin/true", tmp_path / "tool" / "mine"))


def script(path, interpreter):
    path.write_text(f"#! {interpreter} -e\nexit 0\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("backend", ["bubblewrap", "none"])
def test_what_is_no_program_is_told_with_or_without_a_sandbox(tmp_path, backend):
    here = programs(tmp_path, backend=backend)
    (tmp_path / "plain").write_text("")
    (tmp_path / "dangling").symlink_to("gone")
    (tmp_path / "round").symlink_to("round")
    assert here.problem("/no/such/program") == "/no/such/program is not there"
    assert here.problem("/etc/passwd/x") == "/etc/passwd/x is not there"
    assert here.problem(f"{tmp_path}/dangling") == (
        f"{tmp_path}/dangling leads to {tmp_path}/gone, which is not there"
    )
    assert "is out of reach: Too many levels of symbolic links" in here.problem(f"{tmp_path}/round")
    assert here.problem(str(tmp_path)) == f"{tmp_path} is a folder, not a program"
    assert here.problem("/dev/null") == "/dev/null is no file, not a program"
    assert here.problem(f"{tmp_path}/plain") == (
        f"{tmp_path}/plain may not be executed by this user; run: chmod +x {tmp_path}/plain"
    )


def test_the_systems_programs_are_there_by_whatever_path():
    for path in ("/usr/bin/env", "/bin/sh", "/usr/bin/awk", "/usr/bin/python3"):
        if Path(path).exists():
            assert programs().problem(path) is None


def test_a_program_elsewhere_needs_its_folder_in_the_configuration(mine):
    hint = "is not in the sandbox: add its folder to sandbox.extra_ro_binds"
    assert programs().problem(str(mine)) == f"{mine} {hint}"
    assert programs(mine.parent).problem(str(mine)) is None
    assert programs(mine).problem(str(mine)) is None  # it alone
    assert programs(backend="none").problem(str(mine)) is None
    assert programs().problem(str(mine), [Bind(mine.parent, str(mine.parent))]) is None


def test_a_link_is_followed_as_far_as_the_sandbox_shows_it(mine, tmp_path):
    (tmp_path / "bin").mkdir()
    link = tmp_path / "bin" / "link"
    link.symlink_to("../tool/mine")
    assert programs(link.parent).problem(str(link)) == (
        f"{link} leads to {mine}, which is not in the sandbox: add its folder to sandbox.extra_ro_binds"
    )
    assert programs(link.parent, mine.parent).problem(str(link)) is None


def test_a_script_needs_its_interpreter(mine, tmp_path):
    (tmp_path / "bin").mkdir()
    assert programs(tmp_path / "bin").problem(str(script(tmp_path / "bin" / "good", "/bin/sh"))) is None
    bad = script(tmp_path / "bin" / "bad", str(mine))
    assert programs(bad.parent).problem(str(bad)) == (
        f"{bad} is a script, and its interpreter {mine} is not in the sandbox: "
        "add its folder to sandbox.extra_ro_binds"
    )
    assert programs(bad.parent, mine.parent).problem(str(bad)) is None


def test_the_answer_is_that_of_the_sandbox(mine, tmp_path):
    """Each program is run by bubblewrap, with the binds that the daemon would give it."""
    host = probe_host()
    if not isinstance(host, HostTools):
        lacking("; ".join(host.problems))
    shown, hidden, seen_as = tmp_path / "shown", tmp_path / "hidden", tmp_path / "seen-as"
    for folder in (shown, hidden):
        folder.mkdir()
    seen_as.symlink_to("tool")
    (shown / "far").symlink_to(hidden / "near")
    (hidden / "near").symlink_to(mine)
    (shown / "round-about").symlink_to("../shown/../tool/mine")
    script(shown / "script", shown / "far")
    script(shown / "fine", "/bin/sh")
    candidates = [mine, *sorted(shown.iterdir()), seen_as / "mine", Path("/bin/true")]
    seen = 0
    for extra in ((), (shown,), (shown, mine.parent), (shown, seen_as), (shown, hidden, mine), (tmp_path,)):
        binds = [*host.binds, *(Bind(path, str(path)) for path in extra)]
        links = [word for target, path in host.links for word in ("--symlink", target, path)]
        for program in candidates:
            argv = [host.bwrap, "--unshare-all", *_bind_options(binds), *links, "--", str(program)]
            done = subprocess.run(argv, capture_output=True, check=False)
            problem = programs(*extra).problem(str(program))
            assert (problem is None) == (done.returncode == 0), (extra, program, problem, done.stderr)
            seen += problem is None
    assert 0 < seen < 6 * len(candidates)


def test_the_document_names_the_folders_that_every_job_sees():
    (said,) = [line for line in TEXT.splitlines() if line.startswith("A job sees of the machine")]
    for folder in ("/usr", "/bin", "/sbin", "/lib", "/lib64"):
        assert f"`{folder}`" in said
        if Path(folder).exists():
            assert programs()._hidden(f"{folder}/x", programs()._shown) is None
    assert "neither `/opt` nor `/home`" in TEXT
    assert programs()._hidden("/opt/x", programs()._shown) == "/opt/x"
