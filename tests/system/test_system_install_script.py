"""systemd/install.sh for real, on a copy of this machine's root (overlayfs in a mount namespace of its own).

The program is a stand-in of a few lines, and so is its lock file: what is tried is the script. The real program in
the real units is what test_system_debian.py tries.
"""

import json
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from tests.system.images import ROOT

_PARTS = ("systemd", "config", "allowlist.d", "tasks", "docs")
_WHERE = ("/etc", "/usr/local", "/var/lib/aitbc", "/var/log/aitbc", "/usr/lib/systemd")
# Inside the namespace: what is written to / goes into memory, and with it.
_ENTER = """\
set -eu
mount -t tmpfs none "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
mount --rbind /proc "$1/root/proc"
mount --rbind /dev "$1/root/dev"
mount -t tmpfs none "$1/root/run"
mkdir "$1/root/checkout"
cp -r "$2/." "$1/root/checkout"
exec chroot "$1/root" /usr/bin/python3 /checkout/played.py
"""
_PLAYED = """\
import json, os, subprocess
from pathlib import Path

SCRIPT = "/checkout/systemd/install.sh"
WHERE = %r


def there():
    found = {str(Path(folder, name)) for where in WHERE for folder, folders, files in os.walk(where)
             for name in folders + files}
    return {path for path in found | {w for w in WHERE if Path(w).exists()} if "__pycache__" not in path}


def script(*arguments):
    done = subprocess.run(["/bin/sh", SCRIPT, *arguments], capture_output=True, text=True)
    return {"code": done.returncode, "said": done.stdout + done.stderr}


config, rule = Path("/etc/aitbc/miner/config.yaml"), Path("/etc/aitbc/miner/allowlist.d/echo.yaml")
tasks = Path("/usr/local/lib/aitbc/miner/tasks")
told, before = {}, there()
told["first"] = script()
told["program"] = subprocess.run(["/usr/local/bin/fsm-miner"], capture_output=True, text=True).stdout
told["config"] = config.read_text()
told["tasks"] = sorted(path.name for path in tasks.glob("*.py"))
told["enabled"] = Path("/etc/systemd/system/multi-user.target.wants/aitbc-miner.service").is_symlink()
once = there()
told["again"] = script()
told["changed_again"] = sorted(path for path in there() ^ once if "/venvs/" not in path)
config.write_text("edited")
rule.unlink()
(tasks / "example.py").unlink()
(tasks / "own.py").write_text("own")
told["edited"] = script()
told["kept"] = [config.read_text(), rule.exists(), (tasks / "example.py").exists()]
told["beside"] = sorted(path for path in there() if path.endswith(".new"))
told["venvs"] = len(list(Path("/usr/local/lib/aitbc/miner/venvs").iterdir()))
told["uninstall"] = script("--uninstall")
told["left"] = sorted(there() - before)
told["purge"] = script("--purge")
told["left_after_purge"] = sorted(there() - before)
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    if os.geteuid() != 0:
        assert os.environ.get("CI") != "true", "CI runs as root"
        pytest.skip("mounting needs root")
    checkout = tmp_path_factory.mktemp("checkout")
    for name in _PARTS:
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    (checkout / "requirements.lock").write_text("# nothing\n")
    _stand_in(checkout / "dist")
    (checkout / "played.py").write_text(_PLAYED % (_WHERE,))
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", _ENTER, "sh", str(tmp_path_factory.mktemp("root")), str(checkout)],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PIP_NO_INDEX": "1", "HOME": "/root"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


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


def test_it_installs(told):
    assert told["first"]["code"] == 0, told["first"]["said"]
    assert "there is no bootstrap token yet" in told["first"]["said"]
    assert told["program"] == "stand-in\n"
    assert '  auth_token: "credential:miner-auth"\n' in told["config"]
    assert told["tasks"] == sorted(path.name for path in (ROOT / "tasks").glob("*.py"))
    assert told["enabled"]


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


def test_uninstall_leaves_what_it_says(told):
    assert told["uninstall"]["code"] == 0, told["uninstall"]["said"]
    ours = ("/etc/aitbc", "/var/lib/aitbc", "/var/log/aitbc")
    assert [path for path in told["left"] if not path.startswith(ours)] == [
        "/usr/local/lib/aitbc",
        "/usr/local/lib/aitbc/miner",
        "/usr/local/lib/aitbc/miner/tasks",
        "/usr/local/lib/aitbc/miner/tasks/own.py",
    ]
    assert "/etc/aitbc/miner/config.yaml" in told["left"]


def test_purge_leaves_nothing(told):
    assert told["purge"]["code"] == 0, told["purge"]["said"]
    assert told["left_after_purge"] == []


def test_nothing_of_it_reached_this_machine(told):
    assert told["first"]["code"] == 0
    assert not Path("/checkout").exists()
    assert not Path("/usr/local/lib/aitbc").exists()
