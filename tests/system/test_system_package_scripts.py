"""The package's maintainer scripts under the real dpkg, on a copy of this machine's root (root_copy.py).

The program in it is a stand-in of a few lines; the real one under the real systemd is what test_system_debian.py tries.
"""

import importlib.util
import subprocess
from pathlib import Path

import pytest

from tests.system.images import ROOT
from tests.system.root_copy import play

_STAND_IN = {
    "__init__.py": "",
    "__main__.py": "",
    "cli.py": """\
import sys
from pathlib import Path

assert sys.argv[1:3] == ["check", "--journal"], sys.argv
verdict = Path("/var/lib/aitbc/miner/verdict")
if verdict.exists():
    print("the stand-in's reason", file=sys.stderr)
    sys.exit(int(verdict.read_text()))
""",
}


def _deb():
    found = importlib.util.spec_from_file_location("deb", ROOT / "tools" / "deb.py")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def _package(deb, number, tree, target):
    site = tree / deb.LIB / "program" / "lib" / "python3" / "site-packages" / "fsm_miner"
    site.mkdir(parents=True)
    for name, text in _STAND_IN.items():
        (site / name).write_text(text)
    deb._venv(tree / deb.LIB / "program")
    deb._files(tree)
    if number > 1:
        for name in ("config.yaml", "allowlist.d/echo.yaml"):
            with (tree / "etc/aitbc/miner" / name).open("a") as out:
                out.write(f"# changed in {number}\n")
    deb._control(tree, f"0.1.0+{number}-1", "all")
    deb._settle(tree, 1_700_000_000)
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "-Znone", "--build", str(tree), str(target)],
        check=True,
        capture_output=True,
    )


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    folder = tmp_path_factory.mktemp("package")
    (folder / "checkout").mkdir()
    deb = _deb()
    for number in (1, 2, 3):
        _package(deb, number, folder / f"tree-{number}", folder / "checkout" / f"{number}.deb")
    return play("package.py", folder / "checkout", folder / "root")


def test_it_installs(told):
    assert told["install"]["code"] == 0, told["install"]["said"]
    assert "put the bootstrap token into" in told["install"]["said"]
    assert told["modes"] == {
        "/etc/aitbc/miner": "root:games 750",
        "/etc/aitbc/miner/config.yaml": "root:root 644",  # nobody else gets into its folder
        "/var/lib/aitbc/miner": "games:games 750",
        "/var/lib/aitbc/miner/jobs": "games:games 750",
    }


def test_a_version_that_would_not_take_over_the_journal_is_not_turned_to(told):
    assert told["refused"]["code"] == 1
    for word in ("the stand-in's reason", "exit code 5 of check --journal", "dpkg --configure fsm-miner"):
        assert word in told["refused"]["said"]
    assert told["refused_state"] == ["half-configured", True, 0]


def test_it_goes_on_when_the_cause_is_mended(told):
    # Damage (1) is no reason against any version.
    assert told["mended"]["code"] == 0, told["mended"]["said"]
    assert told["mended_state"] == ["installed", False]


def test_an_upgrade_keeps_what_was_edited_and_removed(told):
    assert told["edited"] == ["edited", False, True]
    assert told["beside"] == ["config.yaml.dpkg-dist"]
    assert told["unedited"]
    assert told["asked_for"]


def test_a_downgrade_is_an_installation_like_another(told):
    assert told["downgrade"]["code"] == 0, told["downgrade"]["said"]
    assert told["downgrade_state"] == ["installed", "0.1.0+2-1", "edited"]


def test_killed_in_the_middle_it_ends_well_the_next_time(told):
    assert told["killed_state"] == [True, True]
    assert told["after_kill"]["code"] == 0, told["after_kill"]["said"]
    assert told["after_kill_state"] == ["installed", "0.1.0+3-1", True, 0]


def test_what_a_removal_keeps_a_new_installation_finds(told):
    assert told["remove"]["code"] == 0, told["remove"]["said"]
    enabled = "/var/lib/systemd/deb-systemd-helper-enabled"
    assert {path for path in told["kept"] if not path.startswith(("/etc/aitbc", "/var/lib/aitbc"))} == {
        "/etc/logrotate.d/aitbc-miner",
        f"{enabled}/aitbc-miner.service.dsh-also",
        f"{enabled}/multi-user.target.wants/aitbc-miner.service",
    }
    assert told["reinstall"]["code"] == 0, told["reinstall"]["said"]
    assert told["reinstall_state"] == ["journal", "of jobs", "token", "edited", False]


def test_a_purge_leaves_nothing(told):
    assert told["purge"]["code"] == 0, told["purge"]["said"]
    assert told["left"] == []


def test_nothing_of_it_reached_this_machine(told):
    assert told["install"]["code"] == 0
    assert not Path("/usr/lib/aitbc").exists()
