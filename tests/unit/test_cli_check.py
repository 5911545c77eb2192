"""What `check` finds: each kind of problem, with file, line and key where there are some."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from fsm_miner.cli.check import findings
from fsm_miner.cli.check_host import check_clock, gpu_findings, sandbox_findings
from fsm_miner.cli.finding import Finding, Level, Lines, placed
from fsm_miner.config import parse_config
from fsm_miner.config.model import Sandbox
from fsm_miner.instance import Instance
from fsm_miner.probe import Gpu, GpuReading
from fsm_miner.site.host import host_tools
from runners.host import HostProblems, HostTools
from tests.support.cli_journal import rot, succeeded, write_journal
from tests.support.needs import lacking


@pytest.fixture
def node(tmp_path, monkeypatch):
    """A folder with everything that a node needs, and the text of its configuration."""
    monkeypatch.setenv("MINER_AUTH", "secret-token")
    for name in ("allow", "tasks", "log", "venv/bin", "jobs"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "venv/bin/python").symlink_to("/bin/sh")
    (tmp_path / "allow/sh.yaml").write_text("command:\n  path: /bin/sh\nargs: []\n")
    return tmp_path


def config_text(node, **more):
    lines = {
        "node_id": "node-1",
        "coordinator": {"base_url": "https://c.example/api", "auth_token": "env:MINER_AUTH"},
        "runners": {
            "cli": {"allowlist_files": [f"{node}/allow"]},
            "python": {"task_paths": [f"{node}/tasks"], "venv": f"{node}/venv"},
        },
        "resources": {
            "max_concurrent_cpu": 1,
            "max_concurrent_gpu": 0,
            "mem_soft_mb": 16,
            "disk_reserve_mb": 0,
        },
        "workspace": {"root": f"{node}/jobs"},
        "journal": {"path": f"{node}/journal.db"},
        "logging": {"path": f"{node}/log/miner.jsonl"},
        "health": {"listen": "127.0.0.1:0"},
        "sandbox": {"backend": "none"},
    }
    for key, value in more.items():
        section, _, name = key.partition("__")
        if name:
            lines[section] = {**lines[section], name: value}
        else:
            lines[section] = value
    # JSON is YAML; one key a line gives each a line of its own.
    return json.dumps(lines, indent=1)


def check(node, **more):
    path = node / "config.yaml"
    path.write_text(config_text(node, **more))
    return list(findings(path))


def bad(found):
    return [one for one in found if one.level is Level.PROBLEM]


def the(found, level, words):
    (one,) = [one for one in found if one.level is level and words in one.message]
    return one


def test_a_node_in_order_has_no_problem(node):
    found = check(node)
    assert bad(found) == []
    warned = [one for one in found if one.level is Level.WARNING and not one.message.startswith("limits: ")]
    assert [one.key for one in warned] == ["sandbox.backend"]
    told = " ".join(map(str, found))
    for part in (
        "allowed: sh",
        "there is a token",
        "MiB free",
        "will be made at the first start",
        "the clock says",
    ):
        assert part in told
    assert "secret-token" not in told


def test_every_mistake_in_the_configuration_is_named_with_its_line(node):
    found = check(node, resources__cpu_nice="x", heartbeat={"interval_s": -3})
    text = (node / "config.yaml").read_text().splitlines()
    problems = {one.key: one for one in bad(found)}
    assert problems.keys() >= {"resources.cpu_nice", "heartbeat.interval_s"}
    for key, one in problems.items():
        assert key.rpartition(".")[2] in text[one.line - 1]
        assert one.file == str(node / "config.yaml")
    assert any("GPU" in one.message for one in found)  # the machine is checked all the same


def test_a_configuration_that_is_not_there(tmp_path):
    (one,) = bad(findings(tmp_path / "none.yaml"))[:1]
    assert (one.file, one.line) == (str(tmp_path / "none.yaml"), None)


def test_a_short_token_is_a_warning_that_does_not_show_it(node, monkeypatch):
    monkeypatch.setenv("MINER_AUTH", "abcdefg")
    found = check(node)
    assert bad(found) == []
    assert "can be guessed" in the(found, Level.WARNING, "less than 8 characters").message
    assert "abcdefg" not in " ".join(map(str, found))
    monkeypatch.setenv("MINER_AUTH", "abcdefgh")
    the(check(node), Level.OK, "there is a token")


def test_a_token_that_is_not_there_has_the_line_of_its_key(node, monkeypatch):
    monkeypatch.delenv("MINER_AUTH")
    (one,) = bad(check(node))
    assert one.key == "coordinator.auth_token"
    assert "auth_token" in (node / "config.yaml").read_text().splitlines()[one.line - 1]


def test_a_credential_can_only_be_seen_in_the_unit(node, monkeypatch):
    """A node that is installed as it should be has no problem, seen from a shell."""
    more = {"coordinator__auth_token": "credential:miner-auth"}
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    found = check(node, **more)
    assert bad(found) == []
    assert "hands it to the unit alone" in the(found, Level.WARNING, "credential:miner-auth").message
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(node))
    assert [one.key for one in bad(check(node, **more))] == ["coordinator.auth_token"]
    (node / "miner-auth").write_text("secret-token\n")
    (node / "miner-auth").chmod(0o600)
    the(check(node, **more), Level.OK, "there is a token")


def test_allowlist_mistakes_keep_their_file_and_line(node):
    (node / "allow/a.yaml").write_text("command:\n  path: relative\n")
    (node / "allow/b.yaml").write_text("command: {path: /no/such/program}\n")
    found = check(node)
    (one,) = bad(found)
    assert (one.file, one.line) == (str(node / "allow/a.yaml"), 2)
    missing = the(found, Level.WARNING, "/no/such/program is not there; until then its jobs are given back")
    assert missing.file == str(node / "allow/b.yaml")


def test_a_program_that_may_not_be_executed_is_a_warning(node):
    (node / "data").write_text("")
    (node / "allow/c.yaml").write_text(f"command: {{path: {node}/data, name: data}}\n")
    assert the(check(node), Level.WARNING, "may not be executed").file == str(node / "allow/c.yaml")


def test_a_program_that_no_job_sees_is_a_warning(node):
    shutil.copy("/usr/bin/true", node / "mine")
    (node / "allow/c.yaml").write_text(f"command: {{path: {node}/mine}}\n")
    found = check(node, sandbox={"backend": "bubblewrap"})
    assert the(found, Level.WARNING, "mine is not in the sandbox").file == str(node / "allow/c.yaml")
    shown = check(node, sandbox={"backend": "bubblewrap", "extra_ro_binds": [str(node)]})
    assert "mine is not in the sandbox" not in " ".join(map(str, shown))


def test_an_allowlist_without_a_rule_is_a_warning(node):
    (node / "allow/sh.yaml").unlink()
    assert the(check(node), Level.WARNING, "no command is allowed").line is not None


def test_files_that_everybody_may_change_are_warnings(node):
    (node / "allow/sh.yaml").chmod(0o666)
    assert the(check(node), Level.WARNING, "everybody").file == str(node / "allow/sh.yaml")


@pytest.mark.parametrize(
    ("more", "key", "words"),
    [
        ({"runners__python": {"task_paths": ["/no/tasks"]}}, "runners.python.task_paths", "no folder"),
        ({"runners__python": {"task_paths": [], "venv": "/no/venv"}}, "runners.python.venv", "no program"),
        ({"logging__path": "/no/log/miner.jsonl"}, "logging.path", "nothing would be logged"),
        (
            {"resources__disk_reserve_mb": 2**40},
            "workspace.root",
            "MiB free; resources.disk_reserve_mb keeps",
        ),
        ({"workspace__root": "/dev/null/jobs"}, "workspace.root", "is no folder"),
        ({"sandbox__extra_ro_binds": ["/no/such"]}, "sandbox.extra_ro_binds", "no job can start"),
    ],
)
def test_what_is_missing_on_the_machine(node, more, key, words):
    found = bad(check(node, **more))
    assert key in {one.key for one in found}
    one = next(one for one in found if words in one.message)
    assert one.line is not None


@pytest.mark.parametrize("text", [None, "no certificate"])
def test_a_ca_file_that_is_none(node, text):
    if text is not None:
        (node / "ca.pem").write_text(text)
    (one,) = bad(check(node, coordinator__ca_file=f"{node}/ca.pem"))
    assert (one.key, "ca.pem" in one.message) == ("coordinator.ca_file", True)


def test_more_than_the_machine_has_is_a_warning(node):
    found = check(node, resources__max_concurrent_cpu=1024, resources__mem_soft_mb=2**40)
    assert bad(found) == []
    keys = {one.key for one in found if one.level is Level.WARNING}
    assert keys >= {"resources.max_concurrent_cpu", "resources.mem_soft_mb"}


def test_an_address_that_is_taken(node):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        (one,) = bad(check(node, health__listen=address))
    assert (one.key, one.message.partition(": ")[0]) == ("health.listen", address)
    assert one.message.endswith("; the daemon would run without a status page")


def test_a_daemon_that_runs_without_its_page_is_told(node):
    daemon = Instance(node, version="1", started_at="now")
    try:
        assert "runs (process" in the(check(node), Level.PROBLEM, "it has no status page").message
        daemon.publish("http://127.0.0.1:1/healthz")
        assert bad(check(node)) == []
    finally:
        daemon.close()


def test_a_journal_that_can_not_be_opened_is_a_warning_since_it_will_be_salvaged(node):
    write_journal(node / "journal.db", succeeded())
    assert the(check(node), Level.OK, "`fsm-miner verify`").key == "journal.path"
    rot(node / "journal.db", "UPDATE migrations SET version = 0 WHERE version = 2")
    found = check(node)
    assert bad(found) == []
    assert the(found, Level.WARNING, "salvages").key == "journal.path"


def test_runners_that_are_off_are_not_checked(node):
    runners = {"cli": {"enable": False}, "python": {"enable": False, "task_paths": ["/no"]}}
    found = check(node, runners=runners)
    assert bad(found) == []
    assert {one.key for one in found if one.message == "off"} == {
        "runners.cli.enable",
        "runners.python.enable",
    }


NO_LINES = Lines(Path("/no/config.yaml"))


def test_gpus_are_a_problem_only_where_jobs_may_have_them():
    reading = GpuReading((Gpu("GPU-1", "nvidia", "A", 100, 90, 0, driver="545"),), ("the driver is gone",))
    assert [one.level for one in gpu_findings(reading, 1, NO_LINES)] == [Level.PROBLEM, Level.OK]
    assert [one.level for one in gpu_findings(reading, 0, NO_LINES)] == [Level.WARNING, Level.OK]
    assert [one.level for one in gpu_findings(GpuReading(), 1, NO_LINES)] == [Level.OK]


def test_a_machine_that_can_not_run_jobs():
    found = list(sandbox_findings(HostProblems(("bwrap: not found", "choom: not found")), NO_LINES))
    assert [(one.level, one.message) for one in found] == [
        (Level.PROBLEM, "bwrap: not found"),
        (Level.PROBLEM, "choom: not found"),
    ]


def test_a_folder_that_jobs_must_not_see_is_a_warning(node):
    for name in ("models", "service/deep"):
        (node / name).mkdir(parents=True)

    def said(*folders):
        found = check(node, sandbox__extra_ro_binds=[str(node / name) for name in folders])
        return [
            str(one) for one in found if one.key == "sandbox.extra_ro_binds" and one.level is Level.WARNING
        ]

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(node / "service/deep/socket"))
        assert said("models") == []
        (listens,) = said("service", "models")
        assert (
            "service: a service listens there, and read-only does not keep a job from talking to it"
            in listens
        )
        assert said("service/deep/socket") != []
    (node / "service/deep/socket").unlink()
    (jobs,) = said("jobs")
    assert jobs.endswith(f"jobs: jobs may read the jobs' folders in it ({node}/jobs)")
    assert len(said("")) == 2  # the journal too


def test_what_is_out_of_reach_in_a_folder_for_jobs_ends_no_check(node, monkeypatch):
    (node / "models").mkdir()
    for name in ("fine", "closed"):
        (node / "models" / name).touch()
    lstat, seen = Path.lstat, []

    def refusing(path):
        seen.append(path.name)
        if path.name == "closed":
            raise PermissionError(13, "Permission denied")
        return lstat(path)

    monkeypatch.setattr(Path, "lstat", refusing)
    found = check(node, sandbox__extra_ro_binds=[str(node / "models")])
    assert "closed" in seen
    assert bad(found) == []


def sandboxed(node, state_dir):
    found = check(node, sandbox={"backend": "bubblewrap"}, journal={"path": f"{state_dir}/journal.db"})
    about = [one for one in found if one.key == "sandbox.backend"]
    if any(one.level is Level.PROBLEM for one in about):
        lacking(str(about[0]))
    return about


def test_a_root_that_can_not_make_copies_is_told_in_the_daemons_words(node):
    config = parse_config(config_text(node, journal={"path": "/proc/none/journal.db"}), "c.yaml", node)
    config = config.model_copy(update={"sandbox": Sandbox()})
    daemons = host_tools(config, config.state_dir / "copies")
    told = [one.message for one in sandboxed(node, "/proc/none") if one.level is Level.WARNING]
    assert isinstance(daemons, HostTools)
    assert told == [
        f"sandbox: {one.tag}: {one.meaning}" for one in daemons.lacks if one.tag != "no-core-limit"
    ]
    assert ("can't make copies" in " ".join(told)) == (os.geteuid() == 0)


def test_roots_copies_are_tried_and_nothing_of_them_is_left(node):
    before = sorted(node.rglob("*"))
    found = sandboxed(node, node / "state")
    assert [one.message for one in found if "copies" in one.message] == []
    assert [one.message.split(":")[0] for one in found if "builds sandboxes" in one.message] == [
        shutil.which("bwrap")
    ]
    assert sorted(node.rglob("*")) == sorted({*before, node / "config.yaml"})


def test_the_limit_of_the_shell_is_not_taken_for_that_of_the_unit(node):
    code = (
        "import resource, sys; from pathlib import Path; from fsm_miner.cli.check import findings; "
        "resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); print(*findings(Path(sys.argv[1])), sep='\\n')"
    )
    path = node / "config.yaml"
    path.write_text(config_text(node, sandbox={"backend": "bubblewrap"}))
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert "can't be raised to 1" not in done.stdout
    if "builds sandboxes" in done.stdout:
        assert "not judged here: the limit on core files in the daemon's unit (LimitCORE=1)" in done.stdout
        assert ("nor whether files that jobs hide are counted" in done.stdout) == (os.geteuid() == 0)


def test_a_clock_at_its_birth():
    assert check_clock(NO_LINES, 0.0).level is Level.PROBLEM
    assert check_clock(NO_LINES, 1_800_000_000.0).level is Level.OK


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("/a/b.yaml:12: args[0]: wrong", ("/a/b.yaml", 12, "args[0]: wrong")),
        ("/a/b.yaml: no such file", ("/a/b.yaml", None, "no such file")),
        ("300 files", (None, None, "300 files")),
    ],
)
def test_a_sentence_gives_up_its_place(text, parts):
    found = placed(Level.PROBLEM, text)
    assert (found.file, found.line, found.message) == parts
    assert str(found) == text


def test_a_finding_as_data():
    assert Finding(Level.WARNING, "m", "k", "/f", 3).as_data() == {
        "level": "warning", "file": "/f", "line": 3, "key": "k", "message": "m",
    }  # fmt: skip
