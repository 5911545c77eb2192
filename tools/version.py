"""The version of a build, which tells any two apart: that of the release, then the commit it was built from.

    0.1.0                                the commit that is tagged v0.1.0
    0.1.0+20261125043000.ga2919aa91      a later one: when it was made (UTC), and its name
    0.1.0+20261125043000.ga2919aa91.dirty    and with files that were changed since
    0.1.0+0.unknown                      a copy that is neither a checkout nor an archive of `git archive`

A build from a later commit is the newer version to pip (PEP 440, local version identifiers) and to dpkg
(deb-version(7)) alike. hatchling asks for it (pyproject.toml); a source distribution has it in its PKG-INFO.
"""

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

RELEASE = "0.1.0"
"""The last release, or the one that is being made."""
ROOT = Path(__file__).resolve().parent.parent
_NAME_CHARS = 9


def version(root: Path = ROOT) -> str:
    """Return the version of what lies in this folder."""
    facts = _of_checkout(root) if (root / ".git").exists() else _of_archive(root / ".git_archival.txt")
    if facts is None:
        return f"{RELEASE}+0.unknown"
    commit, made_at, described, dirty = facts
    if described == f"v{RELEASE}" and not dirty:
        return RELEASE
    moment = datetime.fromtimestamp(int(made_at), UTC).strftime("%Y%m%d%H%M%S")
    return f"{RELEASE}+{moment}.g{commit[:_NAME_CHARS]}{'.dirty' if dirty else ''}"


def _of_checkout(root: Path) -> tuple[str, str, str, bool] | None:
    try:
        commit, made_at = _git(root, "log", "-1", "--format=%H %ct").split()
        tags = _git(root, "tag", "--points-at", "HEAD", "--list", f"v{RELEASE}")
        changed = _git(root, "status", "--porcelain")
    except (OSError, subprocess.SubprocessError) as error:
        # No git here, no commit yet, or a checkout of somebody else's (safe.directory).
        told = getattr(error, "stderr", "") or str(error)
        print(f"version.py: the commit is not known: {told.strip()}", file=sys.stderr)
        return None
    return commit, made_at, tags.strip(), bool(changed.strip())


def _of_archive(note: Path) -> tuple[str, str, str, bool] | None:
    """Read what `git archive` has put in place of the $Format$ lines (gitattributes(5), export-subst)."""
    if not note.is_file():
        return None
    lines = note.read_text(encoding="ascii").splitlines()
    facts = {name: value for name, _, value in (line.partition(": ") for line in lines)}
    commit, made_at = facts.get("node", ""), facts.get("made-at", "")
    if not commit.isalnum() or not made_at.isdigit():
        return None
    return commit, made_at, facts.get("described", ""), False


def _git(root: Path, *words: str) -> str:
    # Not the repository that a hook or a rebase around us works in.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(root), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, timeout=60)
    return done.stdout


if __name__ == "__main__":
    print(version())
