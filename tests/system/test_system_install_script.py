"""systemd/install.sh for real, on a copy of this machine's root (root_copy.py).

The program is a stand-in of a few lines, and so is its lock file: what is tried is the script. The real program in
the real units is what test_system_debian.py tries.
"""

import shutil
import zipfile
from pathlib import Path

import pytest

from tests.system.images import ROOT
from tests.system.root_copy import play

_PARTS = ("systemd", "config", "allowlist.d", "tasks", "docs", "packaging")
# Goes with the next boot.
_LOCK = "/run/fsm-miner-install.lock"
# What somebody tried in the checkout, with `make run`.
_TRIED = ("allowlist.d/tried.yaml", "tasks/tried.py")


def checkout(folder):
    for name in _PARTS:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in _TRIED:
        (folder / name).write_text("# anything\n")
    (folder / "requirements.lock").write_text("# nothing\n")
    _stand_in(folder / "dist")
    return folder


def _stand_in(folder):
    folder.mkdir()
    info = "fsm_miner-0.0.1.dist-info"
    files = {
        "fsm_miner/__init__.py": "def main():\n    print('stand-in')\n",
        "fsm_miner/__main__.py": "",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: fsm-miner\nVersion: 0.0.1\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[console_scripts]\nfsm-miner = fsm_miner:main\n",
    }
    with zipfile.ZipFile(folder / "fsm_miner-0.0.1-py3-none-any.whl", "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
        wheel.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in (*files, f"{info}/RECORD")))


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    folder = tmp_path_factory.mktemp("script")
    return play("install_script.py", checkout(folder / "checkout"), folder / "root")


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("interrupted")
    return play("interrupted.py", checkout(folder / "checkout"), folder / "root", size="24m")


@pytest.fixture(scope="module")
def called(tmp_path_factory):
    folder = tmp_path_factory.mktemp("systemd")
    return play("systemd_calls.py", checkout(folder / "checkout"), folder / "root")


def test_it_installs(told):
    assert told["first"]["code"] == 0, told["first"]["said"]
    assert "there is no bootstrap token yet" in told["first"]["said"]
    assert told["program"] == "stand-in\n"
    assert '  auth_token: "credential:miner-auth"\n' in told["config"]
    assert told["enabled"]
    docs = ROOT / "docs"
    assert told["documents"] == sorted(str(path.relative_to(docs)) for path in docs.rglob("*.md"))


def test_it_installs_what_is_shipped_and_nothing_else_that_lies_in_the_checkout(told):
    assert told["shipped"] == (ROOT / "packaging" / "shipped").read_text().split()
    for name in _TRIED:
        assert f"/checkout/{name} is not installed" in told["first"]["said"]


def test_running_it_again_changes_nothing_but_the_venv(told):
    assert told["again"]["code"] == 0, told["again"]["said"]
    assert told["changed_again"] == []


def test_what_an_administrator_changed_or_removed_stays_so(told):
    assert told["edited"]["code"] == 0, told["edited"]["said"]
    assert told["kept"] == ["edited", False, False]
    assert told["beside"] == [
        "/etc/aitbc/miner/allowlist.d/echo.yaml.new",
        "/etc/aitbc/miner/config.yaml.new",
        "/usr/local/lib/aitbc/miner/tasks/example.py.new",
    ]


def test_old_versions_go_but_for_the_last(told):
    assert told["venvs"] == 2


def test_a_version_that_would_not_take_over_the_journal_is_not_turned_to(told):
    assert told["refused"]["code"] == 1
    assert "the stand-in's reason" in told["refused"]["said"]
    assert "exit code 5 of check --journal" in told["refused"]["said"]
    assert told["slow"]["code"] == 1
    assert "was not known after 10 minutes" in told["slow"]["said"]
    assert told["refused_kept"] == [True, 2]


def test_uninstall_leaves_what_it_says(told):
    assert told["uninstall"]["code"] == 0, told["uninstall"]["said"]
    ours = ("/etc/aitbc", "/var/lib/aitbc", "/var/log/aitbc")
    assert [path for path in told["left"] if not path.startswith(ours)] == [
        _LOCK,
        "/usr/local/lib/aitbc",
        "/usr/local/lib/aitbc/miner",
        "/usr/local/lib/aitbc/miner/tasks",
        "/usr/local/lib/aitbc/miner/tasks/own.py",
    ]
    assert "/etc/aitbc/miner/config.yaml" in told["left"]


def test_purge_leaves_nothing(told):
    assert told["purge"]["code"] == 0, told["purge"]["said"]
    assert told["left_after_purge"] == [_LOCK]


def test_killed_anywhere_or_on_a_full_disk_it_ends_well_the_next_time(interrupted):
    for step in ("reference", "purge", "upgrade", "--uninstall", "--purge"):
        assert interrupted[step]["code"] == 0, (step, interrupted[step]["said"])
    assert interrupted["problems"] == []
    assert interrupted["killed"] > interrupted["commands"]
    full = [step["code"] for step in interrupted["full"]]
    print(interrupted["killed"], interrupted["commands"], full)
    assert full[0] != 0, interrupted["full"]
    assert 0 in full, interrupted["full"]
    assert interrupted["left"] == [_LOCK]


# How many units are there, whether .venv leads to the new version, and what is asked of systemd.
_RELOADED = [
    [3, True, "daemon-reload"],
    [3, True, "enable --quiet aitbc-miner.service"],
]
_ASKED = [*_RELOADED, [3, True, "is-active --quiet aitbc-miner.service"]]
_STOPPED = [
    [3, False, "stop aitbc-miner.service"],
    [3, False, "stop aitbc-miner-jobs.service"],
    [3, False, "stop aitbcminer.slice"],
    [3, False, "disable --quiet aitbc-miner.service"],
    [0, False, "daemon-reload"],
]


@pytest.mark.parametrize(
    ("played", "code", "calls"),
    [
        ("first", 0, _ASKED),
        ("no token", 1, _RELOADED),
        ("start", 0, [*_ASKED, [3, True, "start aitbc-miner.service"]]),
        # Nothing has changed but the version; the unit that holds the jobs is left alone, whatever happens.
        ("upgrade", 0, [*_ASKED, [3, True, "restart aitbc-miner.service"]]),
        ("broken", 1, [*_ASKED, [3, True, "restart aitbc-miner.service"]]),
        ("broken start", 1, [*_ASKED, [3, True, "start aitbc-miner.service"]]),
        ("refused", 1, []),
        ("uninstall", 0, _STOPPED),
        ("again", 0, [[0, False, "daemon-reload"]]),
        ("purge", 0, _STOPPED),
    ],
)
def test_it_asks_of_systemd_just_this(called, played, code, calls):
    assert called[played]["code"] == code, called[played]["said"]
    assert called[played]["calls"] == calls
    assert called["enabled"] == []


def test_it_says_what_became_of_the_daemon(called):
    for played, said in (
        ("first", "then: systemctl start aitbc-miner"),
        ("no token", "not started: /etc/aitbc/miner/token is missing or empty"),
        ("start", "started; look with"),
        ("upgrade", "restarting the daemon; running jobs go on"),
        ("broken", "the daemon does not start"),
        ("broken start", "the daemon does not start"),
        ("refused", "nothing was changed"),
    ):
        assert said in called[played]["said"], played


def test_an_upgrade_keeps_the_user_that_the_manual_has_one_give_the_node_to(called):
    assert called["another user"]["code"] == 0, called["another user"]["said"]
    assert called["its upgrade"]["code"] == 0, called["its upgrade"]["said"]
    assert called["of the user before"]["said"] == ""
    assert called["its files"] == {
        "/etc/aitbc/miner": "root:miner",
        "/etc/aitbc/miner/allowlist.d": "root:miner",
        "/etc/aitbc/miner/config.yaml.new": "root:miner",
        "/etc/aitbc/miner/token": "root:root",
        "/var/lib/aitbc/miner": "miner:miner",
        "/var/lib/aitbc/miner/journal.db": "miner:miner",
        "/var/log/aitbc/miner": "miner:miner",
    }


def test_nothing_of_it_reached_this_machine(told):
    assert told["first"]["code"] == 0
    assert not Path("/checkout").exists()
    assert not Path("/usr/local/lib/aitbc").exists()
