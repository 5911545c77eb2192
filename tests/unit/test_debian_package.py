"""The Debian package's parts agree with what they are made from; that it works is tried in tests/system."""

import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from fsm_miner.config import parse_config

ROOT = Path(__file__).parents[2]
TEMPLATES = ROOT / "packaging" / "deb"
SCRIPTS = ("preinst", "postinst", "prerm", "postrm")


@pytest.fixture(scope="module")
def deb():
    found = importlib.util.spec_from_file_location("deb", ROOT / "tools" / "deb.py")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_the_shipped_configuration_is_valid_and_points_at_the_packages_places(deb, tmp_path):
    text = deb.configuration((ROOT / "config" / "config.yaml").read_text())
    config = parse_config(text, "config.yaml", tmp_path)
    assert str(config.coordinator.auth_token) == "credential:miner-auth"
    assert [str(path) for path in config.runners.python.task_paths] == [
        "/usr/local/lib/aitbc/miner/tasks",
        "/usr/lib/aitbc/miner/tasks",
    ]


def test_a_configuration_that_lost_its_marks_is_refused(deb):
    with pytest.raises(deb.BuildError, match="auth_token"):
        deb.configuration("coordinator: {}\n")


def test_what_git_tracks_is_what_is_shipped():
    if not (ROOT / ".git").exists():
        pytest.skip("no checkout")
    done = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "allowlist.d", "tasks"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert (ROOT / "packaging" / "shipped").read_text() == done.stdout


def test_a_rule_and_a_task_that_somebody_tries_in_the_checkout_are_not_packed(
    deb, tmp_path, monkeypatch, capsys
):
    own = tmp_path / "checkout"
    for folder in ("allowlist.d", "tasks", "systemd", "config", "packaging"):
        shutil.copytree(ROOT / folder, own / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("allowlist.d/any-shell.yaml", "tasks/tried.py"):
        (own / name).write_text("")
    monkeypatch.setattr(deb, "ROOT", own)
    tree = tmp_path / "tree"
    deb._files(tree)
    said = capsys.readouterr().err
    assert "allowlist.d/any-shell.yaml: left out" in said
    assert "tasks/tried.py: left out" in said
    assert not [path for path in tree.rglob("*") if path.name in ("any-shell.yaml", "tried.py")]

    # All of /etc is a conffile: what an administrator edits there is kept.
    deb._control(tree, "1-1", "amd64")
    named = (tree / "DEBIAN" / "conffiles").read_text().split()
    in_etc = [path for path in (tree / "etc").rglob("*") if path.is_file()]
    assert named == sorted(f"/{path.relative_to(tree)}" for path in in_etc)
    assert "/etc/aitbc/miner/allowlist.d/echo.yaml" in named


def test_no_link_in_the_packages_documents_is_broken(deb, tmp_path):
    deb._documents(tmp_path, tmp_path, "1-1", 0)
    docs = tmp_path / "usr/share/doc/fsm-miner"
    broken = [
        f"{page.name}: {link}"
        for page in docs.rglob("*.md")
        for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
        if not link.startswith(("http:", "https:")) and not (page.parent / link).exists()
    ]
    assert broken == []


def test_what_is_in_etc_says_where_the_documents_are_on_a_node():
    named = re.findall(r"\S*\bdocs?\b\S*", (ROOT / "config" / "config.yaml").read_text())
    assert named == ["/usr/share/doc/fsm-miner", "/usr/local/share/doc/fsm-miner", "docs."]
    for rule in (ROOT / "allowlist.d").glob("*.yaml"):
        assert "docs/" not in rule.read_text()


@pytest.mark.parametrize("verdict", [0, 2])
def test_a_package_that_lintian_refuses_is_not_where_one_would_install_it_from(tmp_path, verdict):
    (tmp_path / "tools").mkdir()
    for name in ("Makefile", "tools/lintian.sh"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "build" / "deb").mkdir(parents=True)
    (tmp_path / "build" / "deb" / "older.deb").touch()
    for name, text in (
        ("python", 'while [ "$1" != --out ]; do shift; done; mkdir -p "$2"; : >"$2/new.deb"'),
        ("lintian", f"exit {verdict}"),
    ):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    done = subprocess.run(
        ["make", "--old-file=venv", "deb", f"BIN={tmp_path}"],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode == 0) is (verdict == 0), done.stderr
    there = sorted(path.name for path in tmp_path.glob("build/deb/*.deb"))
    assert there == ([] if verdict else ["new.deb"])


def test_libraries_that_differ_between_the_pythons_are_refused(deb, tmp_path):
    for python, text in (("3.11", "a = 1\n"), ("3.13", "a = 2\n")):
        (tmp_path / python / "library").mkdir(parents=True)
        (tmp_path / python / "library" / "module.py").write_text(text)
    deb._merge(tmp_path / "3.11", tmp_path / "both")
    with pytest.raises(deb.BuildError, match=r"library/module\.py"):
        deb._merge(tmp_path / "3.13", tmp_path / "both")


def test_what_nobody_uses_is_left_out(deb, tmp_path):
    for name in (
        "pip/x.py",
        "pip-1.dist-info/METADATA",
        "tzdata/y",
        "example.py",
        "pipes.py",
        "rich/example.py",
    ):
        (tmp_path / "from" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "from" / name).write_text("")
    deb._merge(tmp_path / "from", tmp_path / "to")
    kept = [path.relative_to(tmp_path / "to").as_posix() for path in (tmp_path / "to").rglob("*.py")]
    assert sorted(kept) == ["pipes.py", "rich/example.py"]


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_script_touches_the_unit_that_holds_the_jobs_except_to_remove_all(name):
    calls = [line.strip() for line in (TEMPLATES / name).read_text().splitlines() if "deb-systemd" in line]
    assert not [line for line in calls if "restart" in line and "jobs" in line]
    if name != "prerm":
        assert "aitbc-miner-jobs" not in " ".join(calls)


@pytest.mark.parametrize("name", [*SCRIPTS, "fsm-miner.sh"])
def test_shellcheck_finds_nothing_in_the_packages_scripts(name):
    if shutil.which("shellcheck") is None:
        assert os.environ.get("CI") != "true", "shellcheck is missing; CI must have it"
        pytest.skip("shellcheck is not installed")
    done = subprocess.run(["shellcheck", str(TEMPLATES / name)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_that_is_called_for_nothing_of_its_own_does_nothing(name):
    """Dpkg calls each for more than one reason; an unknown one is left alone, without a word."""
    done = subprocess.run(
        ["/bin/sh", str(TEMPLATES / name), "some-later-reason"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
