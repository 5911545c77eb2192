"""The version names the commit, wherever the source came from, and a later one is newer to pip and to dpkg."""

import importlib.util
import os
import re
import shutil
import subprocess
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PARTS = ("tools/version.py", ".git_archival.txt", ".gitattributes")
GIT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_SYSTEM": "/dev/null",
    **{f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
}


@pytest.fixture(scope="module")
def build():
    found = importlib.util.spec_from_file_location("build_version", ROOT / "tools" / "version.py")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def git(folder, *words, at="2026-11-25T04:30:00Z"):
    env = {**GIT, "GIT_COMMITTER_DATE": at, "GIT_AUTHOR_DATE": at}
    return subprocess.run(
        ["git", "-C", str(folder), *words], env=env, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def checkout(tmp_path):
    folder = tmp_path / "checkout"
    for name in PARTS:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target)
    git(tmp_path, "init", "-q", str(folder))
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "one")
    return folder


def test_a_checkout_names_its_commit(build, checkout):
    commit = git(checkout, "rev-parse", "HEAD")
    assert build.version(checkout) == f"{build.RELEASE}+20261125043000.g{commit[:9]}"


def test_changed_files_are_told(build, checkout):
    (checkout / "new.py").write_text("")
    assert build.version(checkout).endswith(".dirty")


def test_the_tagged_commit_is_the_release(build, checkout):
    git(checkout, "tag", f"v{build.RELEASE}")
    assert build.version(checkout) == build.RELEASE
    git(checkout, "commit", "-q", "--allow-empty", "-m", "two")
    assert build.version(checkout) != build.RELEASE


def archived(checkout, tmp_path):
    packed, folder = tmp_path / "a.tar", tmp_path / "archive"
    git(checkout, "archive", "-o", str(packed), "HEAD")
    folder.mkdir()
    subprocess.run(["tar", "-xf", str(packed), "-C", str(folder)], check=True)
    return folder


@pytest.mark.parametrize("tagged", [False, True])
def test_an_archive_of_it_has_the_same_version(build, checkout, tmp_path, tagged):
    if tagged:
        git(checkout, "tag", f"v{build.RELEASE}")
    assert build.version(archived(checkout, tmp_path)) == build.version(checkout)


def test_a_copy_without_either_says_that_it_does_not_know(build, checkout, tmp_path):
    copied = tmp_path / "copied"
    # The note as it stands in a checkout is no answer.
    shutil.copytree(checkout, copied, ignore=shutil.ignore_patterns(".git"))
    assert build.version(copied) == f"{build.RELEASE}+0.unknown"
    (copied / ".git_archival.txt").unlink()
    assert build.version(copied) == f"{build.RELEASE}+0.unknown"


def test_a_checkout_that_git_can_not_read_builds_all_the_same(build, tmp_path, capsys):
    (tmp_path / ".git").write_text("gitdir: nowhere\n")
    assert build.version(tmp_path) == f"{build.RELEASE}+0.unknown"
    assert "the commit is not known" in capsys.readouterr().err


def test_a_later_commit_is_an_upgrade_to_dpkg(build, checkout):
    versions = ["0.1.0", build.version(checkout)]
    git(checkout, "commit", "-q", "--allow-empty", "-m", "two", at="2026-11-25T04:30:01Z")
    versions += [build.version(checkout), "0.1.1"]
    for older, newer in pairwise(versions):
        subprocess.run(["dpkg", "--compare-versions", f"{older}-1", "lt", f"{newer}-1"], check=True)
    # As PEP 440 spells a version that nothing has to be changed in, and as a Debian version may be.
    assert all(re.fullmatch(r"[0-9.]+(\+[0-9]+\.g[0-9a-f]{9})?", version) for version in versions), versions


def test_the_wheel_asks_for_it():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["hatch"]["version"] == {
        "source": "code",
        "path": "tools/version.py",
        "expression": "version()",
    }
