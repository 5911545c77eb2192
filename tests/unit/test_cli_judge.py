"""`fsm-miner judge`: the daemon's own judgement, asked for from a command line."""

import json
import shutil
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from fsm_miner.cli.app import build

RULE = """\
command:
  path: "/usr/bin/sort"
args:
  - ["-(r|n|u)"]
  - ["[a-z]+\\\\.txt"]
max_runtime_s: 300
max_output_mb: 100
env: ["LC_ALL"]
"""


@pytest.fixture
def ask(tmp_path):
    """Ask about some words; return exit code, what was printed and what was complained about."""
    (tmp_path / "sort.yaml").write_text(RULE)
    config = {
        "coordinator": {"base_url": "https://c.example/api", "auth_token": "env:MINER_AUTH"},
        "runners": {"cli": {"allowlist_files": [str(tmp_path / "sort.yaml")]}, "python": {"enable": False}},
        "resources": {"disk_reserve_mb": 0, "mem_soft_mb": 256, "max_concurrent_gpu": 0},
        "workspace": {"root": str(tmp_path / "not" / "there" / "yet")},
        "network": {"allow": ["example.org:443"]},
    }
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps(config))

    def call(*words, stdin=b""):
        found = CliRunner().invoke(build(), ["judge", "--config", str(path), *words], input=stdin)
        return SimpleNamespace(code=found.exit_code, out=found.stdout, err=found.stderr)

    return call


def manifest(**fields):
    return json.dumps({"job_id": "j-1", "runner": "cli", "command": "sort", **fields}).encode()


def test_what_a_rule_allows_runs_within_the_rules_limits(ask):
    found = ask("--json", "--", "sort", "-r", "-n", "a.txt")
    assert found.code == 0
    assert json.loads(found.out) == {
        "runs": True,
        "program": "/usr/bin/sort",
        "time_limit_s": 300,
        "memory_limit_mb": 256,
        "output_limit_mb": 100,
    }
    assert ask("--", "/usr/bin/sort").out == (
        "yes: /usr/bin/sort\nwithin 300 s, 256 MiB of memory, 100 MiB of output\n"
    )


def test_a_program_that_jobs_can_not_run_is_no(ask, tmp_path):
    (tmp_path / "sort.yaml").write_text(RULE.replace("/usr/bin/sort", f"{tmp_path}/sort"))
    found = ask("--", "sort")
    assert (found.code, found.out) == (1, f"no: E_NORESOURCE: {tmp_path}/sort is not there\n")
    shutil.copy("/usr/bin/sort", tmp_path / "sort")
    assert ask("--", "sort").out.startswith(
        f"no: E_NORESOURCE: {tmp_path}/sort is not in the sandbox: add its "
    )


@pytest.mark.parametrize("without", [{}, {"job_id": None}])
def test_a_manifest_may_lack_its_id_as_when_it_is_submitted(ask, without):
    asked = {"runner": "cli", "command": "sort", **without}
    assert ask("--manifest", "-", stdin=json.dumps(asked).encode()).code == 0
    wrong = ask("--manifest", "-", stdin=json.dumps({**asked, "job_id": "/"}).encode())
    assert (wrong.code, "job_id: is not 1 to 128" in wrong.out) == (1, True)


def test_a_text_in_the_place_of_a_list_is_told_in_json_s_words(ask):
    assert "args: must be a list" in ask("--manifest", "-", stdin=manifest(args="a.txt")).out


def test_options_of_the_command_are_not_ours(ask):
    found = ask("--", "sort", "--json", "--manifest", "-o", "x")
    assert found.code == 1
    assert found.out.startswith('no: E_DENY: args[0]: "--json" is not allowed')


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"args": ["../a.txt"]}, "E_DENY"),
        ({"command": "sh"}, "E_DENY"),
        ({"env": {"LD_PRELOAD": "x"}}, "E_DENY"),
        ({"env": {"TZ": "UTC"}}, "E_DENY"),
        ({"network": {"allow": ["elsewhere.example:443"]}}, "E_DENY"),
        ({"runner": "python", "command": None, "task": "example"}, "E_DENY"),
        ({"requirements": {"memory_mb": 90_000_000}}, "E_NORESOURCE"),
        ({"requirements": {"cpu_threads": 4096}}, "E_NORESOURCE"),
        ({"requirements": {"gpu": True}}, "E_NOGPU"),
        ({"artifacts": [{"path": "/etc/passwd"}]}, "E_INVALID"),
        ({"job_id": "../.."}, "E_INVALID"),
    ],
)
def test_what_would_not_run_says_why(ask, fields, code):
    found = ask("--json", "--manifest", "-", stdin=manifest(**fields))
    answer = json.loads(found.out)
    assert (found.code, answer["runs"], answer["error_code"]) == (1, False, code)
    assert answer["error_msg"]


def test_a_manifest_in_a_file(ask, tmp_path):
    (tmp_path / "job.json").write_bytes(manifest(args=["a.txt"], timeout_s=7, env={"LC_ALL": "C"}))
    found = ask("--manifest", str(tmp_path / "job.json"))
    assert found.code == 0
    assert "within 7 s" in found.out


def test_no_secret_is_repeated(ask):
    found = ask("--manifest", "-", stdin=manifest(secrets={"LD_PRELOAD": "hunter2hunter2"}))
    assert found.code == 1
    assert "hunter2" not in found.out + found.err


@pytest.mark.parametrize(
    ("words", "stdin", "complaint"),
    [
        ((), b"", "judge what?"),
        (("--manifest", "-", "--", "sort"), b"", "judge what?"),
        (("--manifest", "/nowhere/job.json"), b"", "cannot read /nowhere/job.json: No such file"),
        (("--manifest", "-"), b"{", "-: not JSON"),
        (("--manifest", "-"), b"[" * 100_000, "-: not JSON"),
        (("--manifest", "-"), b'"' + b"x" * 5_000_000 + b'"', "-: more than 4 MiB"),
        (("--manifest", "/dev/zero"), b"", "/dev/zero is not a regular file"),
    ],
)
def test_what_can_not_be_judged_is_a_wrong_usage(ask, words, stdin, complaint):
    found = ask(*words, stdin=stdin)
    assert found.code == 2
    assert complaint in found.err
    assert found.out == ""


def test_what_is_no_object_is_no_job(ask):
    found = ask("--manifest", "-", stdin=b"[]")
    assert (found.code, found.out) == (1, "no: E_INVALID: job: is not a JSON object\n")
