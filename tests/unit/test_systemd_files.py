"""What systemd/ promises can be read off its files; that it works is tried on a booted system."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from fsm_miner.config.model import Config, CoordinatorSection
from fsm_miner.config.secret import parse_secret_ref
from fsm_miner.site.cgroups import JOBS_UNIT
from tests.support.needs import lacking
from tests.system.exposure import documented_exposure

ROOT = Path(__file__).parents[2]
SYSTEMD = ROOT / "systemd"
DAEMON = "aitbc-miner.service"
SLICE = "aitbcminer.slice"
VENV = "/usr/local/lib/aitbc/miner/.venv"


def directives(name: str) -> dict[str, list[str]]:
    """Read a unit: `Section.Key` to its values, in order."""
    found: dict[str, list[str]] = {}
    section = ""
    for number, raw in enumerate((SYSTEMD / name).read_text(encoding="ascii").splitlines(), start=1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith("["):
            section = line.strip("[]")
            continue
        key, equals, value = line.partition("=")
        assert equals, f"{name}:{number}: no directive: {line}"
        assert section, f"{name}:{number}: a directive outside a section"
        found.setdefault(f"{section}.{key}", []).append(value)
    return found


def one(unit: dict[str, list[str]], key: str) -> str:
    (value,) = unit[key]
    return value


def missing_tool(name: str) -> None:
    lacking(f"{name} is missing; CI must have it")


@pytest.fixture
def config() -> Config:
    return Config(
        coordinator=CoordinatorSection(
            base_url="https://coordinator.example/api/v1", auth_token="credential:miner-auth"
        )
    )


def test_both_units_share_a_slice_that_is_not_nested():
    assert one(directives(DAEMON), "Service.Slice") == SLICE
    assert one(directives(JOBS_UNIT), "Service.Slice") == SLICE
    assert (SYSTEMD / SLICE).is_file()
    assert "-" not in SLICE


def test_the_slice_weighs_what_the_daemons_niceness_does():
    slice_unit, daemon = directives(SLICE), directives(DAEMON)
    # sched(7) has no table of weights, cpu.weight.nice does: 1024 at 0, a tenth less for each step (1.25 to the power).
    nice = int(one(daemon, "Service.Nice"))
    assert one(slice_unit, "Slice.CPUWeight") == str(round(100 / 1.25**nice))
    assert one(slice_unit, "Slice.IOWeight") == str(
        (8 - int(one(daemon, "Service.IOSchedulingPriority"))) * 25
    )


def test_both_units_have_the_same_user():
    assert one(directives(DAEMON), "Service.User") == one(directives(JOBS_UNIT), "Service.User") == "games"


def test_whatever_names_the_user_is_in_the_recipe_for_another_one():
    """That the recipe works is tried in tests/system (`another_user`, and the install script's)."""
    # Makes games where it is missing, which harms nobody.
    exempt = {"aitbc-miner.sysusers.conf"}
    recipe = (ROOT / "docs" / "operations.md").read_text().split("## Another user")[1].split("```")[1]
    units = re.search(r"for unit in (.*); do", recipe)[1].split()
    drop_in = re.search(r"printf '(.*)' >", recipe)[1].split(r"\n")
    naming = {}
    for path in sorted([*SYSTEMD.iterdir(), *(ROOT / "packaging" / "deb").iterdir()]):
        lines = path.read_text().splitlines()
        if found := [line.strip() for line in lines if re.match(r"[^#]*\bgames\b", line)]:
            naming[path.name] = found
    for name in naming.keys() - exempt:
        if name.endswith(".service"):
            assert name.removesuffix(".service") in units
            assert {line.replace("games", "miner") for line in naming[name]} <= set(drop_in)
        elif name == "install.sh":
            assert naming[name] == ['[ -n "$user" ] || user=games', 'sed "s/games/$user/g" "$1" >"$made"']
        else:
            # The administrator's own copy, by the same name.
            kind = name.rpartition("aitbc-miner.")[2].removesuffix(".conf")
            place = {
                "tmpfiles": "/etc/tmpfiles.d/aitbc-miner.conf",
                "logrotate": "/etc/logrotate.d/aitbc-miner",
            }
            assert place[kind] in recipe
    assert len(naming) == 6


def test_stopping_the_daemon_kills_nothing_else():
    unit = directives(DAEMON)
    assert one(unit, "Service.KillMode") == "process"
    assert "Service.Delegate" not in unit
    assert one(unit, "Service.OOMPolicy") == "continue"


def test_the_daemon_wants_the_jobs_unit_and_neither_takes_the_other_along():
    daemon, jobs = directives(DAEMON), directives(JOBS_UNIT)
    assert JOBS_UNIT in one(daemon, "Unit.Wants").split()
    assert JOBS_UNIT in one(daemon, "Unit.After").split()
    ties = {"Requires", "Requisite", "BindsTo", "PartOf", "Upholds", "Conflicts", "PropagatesStopTo"}
    for unit in (daemon, jobs):
        assert not ties & {key.partition(".")[2] for key in unit}


def test_the_jobs_unit_holds_delegated_cgroups():
    unit = directives(JOBS_UNIT)
    assert one(unit, "Service.Delegate") == "yes"
    assert one(unit, "Service.OOMPolicy") == "continue"
    # Only once it is ready do the controllers exist that the daemon looks for.
    assert one(unit, "Service.Type") == "notify"
    start = one(unit, "Service.ExecStart")
    leaf, controllers, ready, sleep = (
        start.index(part)
        for part in (
            "holder/cgroup.procs",
            "for name in cpu cpuset io memory pids",
            "systemd-notify --ready",
            "exec sleep",
        )
    )
    assert leaf < controllers < ready < sleep
    assert f"/sys/fs/cgroup/{SLICE}/%n" in start
    assert one(unit, "Service.ExecStartPre") == (f"+/usr/bin/chown $USER /sys/fs/cgroup/{SLICE}/cgroup.procs")


def test_the_daemon_is_started_from_its_venv_with_a_safe_path():
    words = one(directives(DAEMON), "Service.ExecStart").split()
    assert words == [
        f"{VENV}/bin/python",
        "-P",
        "-X",
        "faulthandler",
        "-m",
        "fsm_miner",
        "--config",
        "/etc/aitbc/miner/config.yaml",
    ]


def test_silence_of_the_daemon_ends_it_and_leaves_no_core_file():
    unit = directives(DAEMON)
    assert one(unit, "Service.Type") == "notify"
    assert int(one(unit, "Service.WatchdogSec")) >= 30
    # A replay may take longer than systemd's usual 90 s.
    assert one(unit, "Service.TimeoutStartSec") == "10min"
    assert one(unit, "Service.LimitCORE") == one(directives(JOBS_UNIT), "Service.LimitCORE") == "1"


def test_nothing_that_is_bound_to_the_jobs_cgroups_is_set_on_their_unit():
    unit = directives(JOBS_UNIT)
    for name in (
        "PrivateDevices",
        "DevicePolicy",
        "DeviceAllow",
        "ProtectClock",
        "IPAddressDeny",
        "SocketBindDeny",
        "RestrictNetworkInterfaces",
        "ProtectControlGroups",
    ):
        assert f"Service.{name}" not in unit


@pytest.mark.parametrize("name", [DAEMON, JOBS_UNIT])
def test_the_units_are_as_exposed_as_the_documents_say(name: str):
    last = security(name).stdout.strip().splitlines()[-1]
    (found,) = re.findall(r": ([0-9.]+) ", last)
    assert {document: said[name] for document, said in documented_exposure().items()} == {
        "security.md": float(found),
        "system-tests.md": float(found),
    }


@pytest.mark.parametrize("name", [DAEMON, JOBS_UNIT])
def test_whatever_systemd_finds_missing_has_its_reason(name: str):
    comments = "\n".join(line for line in (SYSTEMD / name).read_text().splitlines() if line.startswith("#"))
    missing = [row["name"] for row in json.loads(security(name, "--json=short").stdout) if not row["set"]]
    assert "PrivateUsers=" in missing
    for found in missing:
        directive, _, refused = found.partition("=")
        # SystemCallFilter=~@mount, but RestrictNamespaces=~pid: of namespaces there is one reason for all.
        word = refused.removeprefix("~") if refused.startswith("~@") else directive
        word = refused.removeprefix("~AF_").strip("()").split("|")[0] if "AF_" in refused else word
        assert word in comments, found


def security(name: str, *options: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("systemd-analyze") is None:
        missing_tool("systemd-analyze")
    command = ["systemd-analyze", "security", "--offline=true", *options, str(SYSTEMD / name)]
    return subprocess.run(command, capture_output=True, text=True, check=True)


def test_it_is_restarted_for_ever():
    unit = directives(DAEMON)
    assert (one(unit, "Service.Restart"), one(unit, "Service.RestartSec")) == ("always", "5")
    assert one(unit, "Unit.StartLimitIntervalSec") == "0"


def test_priorities_are_those_of_the_specification():
    unit = directives(DAEMON)
    assert one(unit, "Service.Nice") == "10"
    assert one(unit, "Service.IOSchedulingClass") == "best-effort"
    assert one(unit, "Service.IOSchedulingPriority") == "6"


def test_what_the_daemon_writes_by_default_is_writable(config: Config):
    unit = directives(DAEMON)
    writable = [Path(path) for path in one(unit, "Service.ReadWritePaths").split()]
    assert config.logging.path is not None
    for path in (config.logging.path, config.journal.path, config.workspace.root):
        assert any(path.is_relative_to(folder) for folder in writable), path
    assert Path("/var/lib", one(unit, "Service.StateDirectory")) in writable
    assert Path("/var/log", one(unit, "Service.LogsDirectory")) in writable


def test_seccomp_refuses_a_list_and_allows_everything_else():
    # A list of what is allowed would have to have mount, unshare and pivot_root on it, and be right for every job.
    refused, allowed = directives(DAEMON)["Service.SystemCallFilter"]
    assert refused.startswith("~@")
    assert allowed == "pidfd_getfd"  # one of @debug


def test_nothing_is_set_that_breaks_the_sandbox_or_cuda_and_each_has_its_reason():
    unit = directives(DAEMON)
    comments = "\n".join(line for line in (SYSTEMD / DAEMON).read_text().splitlines() if line.startswith("#"))
    for name in (
        "RestrictNamespaces",
        "RestrictSUIDSGID",
        "ProtectKernelTunables",
        "ProtectKernelLogs",
        "ProtectProc",
        "ProtectHostname",
        "ProtectControlGroups",
        "PrivateDevices",
        "ProtectClock",
        "MemoryDenyWriteExecute",
    ):
        assert f"Service.{name}" not in unit
        assert f"{name}=" in comments


def test_hardening_of_the_specification_is_there():
    unit = directives(DAEMON)
    assert one(unit, "Service.NoNewPrivileges") == "yes"
    assert one(unit, "Service.ProtectSystem") == "strict"
    assert one(unit, "Service.ProtectHome") == "yes"
    assert one(unit, "Service.PrivateTmp") == "yes"


def test_the_token_comes_as_a_credential_and_never_from_the_unit(config: Config):
    unit = directives(DAEMON)
    name, path = one(unit, "Service.LoadCredential").split(":")
    assert parse_secret_ref(f"credential:{name}") == config.coordinator.auth_token
    assert path == "/etc/aitbc/miner/token"
    assert "Service.Environment" not in unit


def test_the_installer_points_the_shipped_configuration_at_the_credential():
    (expression,) = re.findall(r"sed '(s\|[^']*)'", (SYSTEMD / "install.sh").read_text())
    shipped = (ROOT / "config" / "config.yaml").read_text()
    done = subprocess.run(["sed", expression], input=shipped, text=True, capture_output=True, check=True)
    changed = [
        after
        for before, after in zip(shipped.splitlines(), done.stdout.splitlines(), strict=True)
        if before != after
    ]
    assert changed == ['  auth_token: "credential:miner-auth"']


def test_logrotate_turns_the_default_log_as_the_specification_says(config: Config):
    text = (SYSTEMD / "aitbc-miner.logrotate").read_text(encoding="ascii")
    lines = [line.strip() for line in text.splitlines() if not line.lstrip().startswith("#")]
    assert lines[0] == f"{config.logging.path} {{"
    for line in ("size 50M", "rotate 7", "create 0640 games games", "su games games"):
        assert line in lines
    assert "copytruncate" not in lines


def test_tmpfiles_make_the_layout_of_the_specification():
    rows = {
        words[1]: words[2:5]
        for line in (SYSTEMD / "aitbc-miner.tmpfiles.conf").read_text(encoding="ascii").splitlines()
        if (words := line.split()) and words[0] == "d"
    }
    for name in ("jobs", "cache", "tmp"):
        assert rows[f"/var/lib/aitbc/miner/{name}"] == ["0750", "games", "games"]
    # The daemon may read its rules and its tasks, and change neither.
    assert rows["/etc/aitbc/miner"] == rows["/etc/aitbc/miner/allowlist.d"] == ["0750", "root", "games"]
    assert rows["/usr/local/lib/aitbc/miner/tasks"] == ["0755", "root", "root"]
    assert rows["/var/log/aitbc/miner"][0] == "0750"


def test_the_installer_never_restarts_the_unit_that_holds_the_jobs():
    calls = re.findall(r"^\s*systemctl .*$", (SYSTEMD / "install.sh").read_text(), re.MULTILINE)
    assert any("restart aitbc-miner.service" in call for call in calls)
    assert not any("restart" in call and JOBS_UNIT in call for call in calls)


@pytest.mark.parametrize(("argument", "code"), [("--help", 0), ("--bogus", 2), ("--wheel", 2)])
def test_the_installer_explains_itself(argument: str, code: int):
    done = subprocess.run(
        ["/bin/sh", str(SYSTEMD / "install.sh"), argument], capture_output=True, text=True, check=False
    )
    assert done.returncode == code
    assert "--purge" in (done.stderr if code else done.stdout)
    assert done.stderr.startswith("install.sh: ") is (code != 0)


def test_shellcheck_finds_nothing_in_the_installer():
    if shutil.which("shellcheck") is None:
        missing_tool("shellcheck")
    done = subprocess.run(
        ["shellcheck", str(SYSTEMD / "install.sh")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("name", [DAEMON, JOBS_UNIT, SLICE])
def test_systemd_finds_nothing_wrong_with_the_units(name: str, tmp_path: Path):
    if shutil.which("systemd-analyze") is None:
        missing_tool("systemd-analyze")
    for unit in (DAEMON, JOBS_UNIT, SLICE):
        text = (SYSTEMD / unit).read_text()
        # The program is not installed where the tests run; nothing else is changed.
        (tmp_path / unit).write_text(text.replace(f"{VENV}/bin/python", "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / name)],
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
