"""Build the Debian package: `make deb`. One for Debian 12 and 13; why so, and where it puts things: docs/adr/0010.

The wheel comes from the checkout; its dependencies are those of requirements.lock, checked by their hashes. Nothing of
the target system is needed, nor any rights: wheels for each release's Python are unpacked, not run.
"""

import argparse
import gzip
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from email.parser import HeaderParser
from email.utils import formatdate
from filecmp import cmp
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TEMPLATES = ROOT / "packaging" / "deb"
SHIPPED = ROOT / "packaging" / "shipped"
NAME = "fsm-miner"
MAINTAINER = "fsm-miner maintainers <maintainers@fsm-miner.invalid>"
# Debian 12, Debian 13.
PYTHONS = ("3.11", "3.13")
# What the older release's glibc (2.36) can load.
PLATFORMS = ("manylinux_2_34", "manylinux_2_28", "manylinux_2_17", "manylinux2014")
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
# sqlite-utils asks for pip to install plug-ins with, which nobody does here. Time zones are Debian's own (tzdata).
# nvidia-ml-py leaves an example beside its module.
UNUSED = ("pip", "pip-*.dist-info", "tzdata", "tzdata-*.dist-info", "example.py")

LIB = "usr/lib/aitbc/miner"
SPEC_LIB = "/usr/local/lib/aitbc/miner"
SCRIPTS = ("preinst", "postinst", "prerm", "postrm")


class BuildError(Exception):
    """The package can't be built; says why."""


def main() -> int:
    """Build, print the package's path."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wheel", type=Path, help="the product (default: the one in build/wheel)")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "deb", help="folder for the package")
    parser.add_argument("--revision", type=int, default=1, help="Debian revision: the 1 of 0.1.0-1")
    parser.add_argument("--fast", action="store_true", help="compress little: for tests")
    given = parser.parse_args()
    try:
        print(build(given.wheel or _only_wheel(), given.out, given.revision, fast=given.fast))
    except (BuildError, OSError) as error:
        print(f"deb.py: {error}", file=sys.stderr)
        return 1
    return 0


def build(wheel: Path, out: Path, revision: int, *, fast: bool) -> Path:
    """Build the package from the wheel, and return its path."""
    architecture = _output("dpkg", "--print-architecture")
    if architecture not in MACHINES:
        raise BuildError(f"{architecture}: wheels are looked for on {', '.join(MACHINES)} only")
    version = f"{wheel.name.split('-')[1]}-{revision}"
    when = int(os.environ.get("SOURCE_DATE_EPOCH") or _last_change())
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="deb-", dir=out) as folder:
        tree = Path(folder, "tree")
        site = tree / LIB / "program" / "lib" / "python3" / "site-packages"
        _libraries(site, wheel, Path(folder), MACHINES[architecture])
        _venv(tree / LIB / "program")
        _files(tree)
        _documents(tree, site, version, when)
        _control(tree, version, architecture)
        _settle(tree, when)
        target = out / f"{NAME}_{version}_{architecture}.deb"
        packed = Path(folder, target.name)
        pack = ["-Zgzip", "-z1"] if fast else ["-Zxz"]
        _run(
            *("dpkg-deb", "--root-owner-group", *pack, "--build", tree, packed),
            env={**os.environ, "SOURCE_DATE_EPOCH": str(when)},
        )
        packed.rename(target)
    return target


def _only_wheel() -> Path:
    found = sorted((ROOT / "build" / "wheel").glob("fsm_miner-*.whl"))
    if len(found) != 1:
        raise BuildError(f"{len(found)} wheels in build/wheel; run `make venv`, or name one with --wheel")
    return found[0]


def _libraries(site: Path, wheel: Path, scratch: Path, machine: str) -> None:
    """Unpack product and dependencies for each Python, into one folder: only compiled modules differ, by name."""
    for python in PYTHONS:
        one = scratch / python
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
        target = ["--no-compile", "--no-deps", "--target", one, "--python-version", python]
        target += ["--implementation", "cp", "--only-binary", ":all:"]
        platforms = [word for name in PLATFORMS for word in ("--platform", f"{name}_{machine}")]
        _run(*pip, *target, *platforms, "--require-hashes", "-r", ROOT / "requirements.lock")
        _run(*pip, *target, *platforms, "--no-index", wheel)
        shutil.rmtree(
            one / "bin", ignore_errors=True
        )  # commands of libraries, with this machine's paths in them
        _merge(one, site)


def _merge(source: Path, target: Path) -> None:
    for path in sorted(path for path in source.rglob("*") if path.is_file()):
        name = path.relative_to(source)
        there = target / name
        if any(fnmatch(name.parts[0], unused) for unused in UNUSED):
            continue
        if not there.exists():
            there.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, there)
        elif not name.parts[0].endswith(".dist-info") and not cmp(path, there, shallow=False):
            # dist-info says which wheel it was (tags, hashes): nothing that runs reads that.
            raise BuildError(f"{name}: differs between Python {' and '.join(PYTHONS)}: it can't be shared")


def _venv(home: Path) -> None:
    """Make of the libraries a virtual environment (PEP 405) for whichever Python the system has."""
    (home / "bin").mkdir()
    for name in ("python", "python3"):
        (home / "bin" / name).symlink_to("/usr/bin/python3")
    for python in PYTHONS:
        (home / "lib" / f"python{python}").symlink_to("python3")
    (home / "pyvenv.cfg").write_text("home = /usr/bin\ninclude-system-site-packages = false\n")


def _files(tree: Path) -> None:
    """Put units, configuration, rules and tasks where a Debian package has them."""
    systemd = ROOT / "systemd"
    for unit in ("aitbc-miner.service", "aitbc-miner-jobs.service", "aitbcminer.slice"):
        text = (systemd / unit).read_text()
        text = text.replace(f"{SPEC_LIB}/.venv", f"/{LIB}/.venv")
        _write(
            tree / "usr/lib/systemd/system" / unit, text.replace("/usr/local/share/doc/", "/usr/share/doc/")
        )
    tmpfiles = (systemd / "aitbc-miner.tmpfiles.conf").read_text().splitlines(keepends=True)
    _write(
        tree / "usr/lib/tmpfiles.d/aitbc-miner.conf",
        # What a package makes below /usr/local it makes once (Debian Policy 9.1.2).
        "".join(line for line in tmpfiles if not line.startswith("d /usr/local/")),
    )
    _copy(systemd / "aitbc-miner.sysusers.conf", tree / "usr/lib/sysusers.d/aitbc-miner.conf")
    _copy(systemd / "aitbc-miner.logrotate", tree / "etc/logrotate.d/aitbc-miner")
    _write(tree / "etc/aitbc/miner/config.yaml", configuration((ROOT / "config/config.yaml").read_text()))
    for rule in shipped("allowlist.d"):
        _copy(rule, tree / "etc/aitbc/miner/allowlist.d" / rule.name)
    for task in shipped("tasks"):
        _copy(task, tree / LIB / "tasks" / task.name)
    command = tree / "usr/bin" / NAME
    _copy(TEMPLATES / "fsm-miner.sh", command)
    command.chmod(0o755)


def shipped(folder: str) -> list[Path]:
    """Return the folder's files that belong to the product; name the others, which somebody tries with `make run`."""
    names = [name for name in SHIPPED.read_text().split() if name.startswith(f"{folder}/")]
    for path in sorted((ROOT / folder).glob("*.*")):
        if f"{folder}/{path.name}" not in names:
            print(f"deb.py: {folder}/{path.name}: left out, it is not in packaging/shipped", file=sys.stderr)
    return [ROOT / name for name in names]


def configuration(text: str) -> str:
    """Return the configuration as the package ships it: the token by credential, and two folders of tasks.

    Raises:
        BuildError: there is nothing to change where it is expected.

    """
    own = f'      - "{SPEC_LIB}/tasks"\n'
    for old, new in (
        ('  auth_token: "env:MINER_AUTH"\n', '  auth_token: "credential:miner-auth"\n'),
        (own, f'{own}      # Shipped with the package.\n      - "/{LIB}/tasks"\n'),
        (f'    # venv: "{SPEC_LIB}/.venv"\n', f'    # venv: "/{LIB}/.venv"\n'),
    ):
        if text.count(old) != 1:
            raise BuildError(f"config/config.yaml: the line {old.strip()!r} is not there once")
        text = text.replace(old, new)
    return text


def _documents(tree: Path, site: Path, version: str, when: int) -> None:
    docs = tree / "usr/share/doc" / NAME
    for page in sorted((ROOT / "docs").rglob("*.md")):
        _copy(page, docs / page.relative_to(ROOT / "docs"))
    _write(
        docs / "copyright", (TEMPLATES / "copyright.in").read_text().replace("@LIBRARIES@", _licences(site))
    )
    entry = (
        f"{NAME} ({version}) stable; urgency=medium\n\n  * See changelog.gz for what changed.\n\n"
        f" -- {MAINTAINER}  {formatdate(when, usegmt=False)}\n"
    )
    for name, text in (("changelog.Debian.gz", entry), ("changelog.gz", (ROOT / "CHANGELOG.md").read_text())):
        (docs / name).write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    _copy(TEMPLATES / "lintian-overrides", tree / "usr/share/lintian/overrides" / NAME)


def _licences(site: Path) -> str:
    """Name the licence of each library, and where its text is."""
    rows: list[str] = []
    for info in sorted(site.glob("*.dist-info")):
        fields = HeaderParser().parsestr((info / "METADATA").read_text(encoding="utf-8"))
        if fields["Name"] == NAME:
            continue
        classified = [
            line.rpartition(" :: ")[2]
            for line in fields.get_all("Classifier", [])
            if line.startswith("License ::")
        ]
        licence = fields["License-Expression"] or ", ".join(classified) or fields["License"] or ""
        if not licence.strip():
            raise BuildError(f"{info.name}: METADATA names no licence")
        rows.append(f"  {fields['Name']} {fields['Version']}: {licence.splitlines()[0]}")
    return "\n".join(rows)


def _control(tree: Path, version: str, architecture: str) -> None:
    files = [path for path in _walk(tree) if path.is_file() and not path.is_symlink()]
    size_kib = sum(-(-path.stat().st_size // 1024) for path in files)
    values = {
        "VERSION": version,
        "ARCHITECTURE": architecture,
        "MAINTAINER": MAINTAINER,
        "INSTALLED_SIZE": str(size_kib),
    }
    text = re.sub(r"@([A-Z_]+)@", lambda match: values[match[1]], (TEMPLATES / "control.in").read_text())
    sums = "".join(
        f"{hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()}  {path.relative_to(tree)}\n"
        for path in files
        if path.relative_to(tree).parts[0] != "etc"
    )
    control = tree / "DEBIAN"
    _write(control / "control", text)
    _write(control / "md5sums", sums)
    # Debian Policy 10.7.3: all that a package has in /etc is the administrator's to edit.
    conffiles = sorted(f"/{path.relative_to(tree)}" for path in files if path.is_relative_to(tree / "etc"))
    _write(control / "conffiles", "".join(f"{path}\n" for path in conffiles))
    for script in SCRIPTS:
        _copy(TEMPLATES / script, control / script)


def _settle(tree: Path, when: int) -> None:
    """Give everything the modes and the time that it has whoever builds it."""
    for path in [*_walk(tree), tree]:
        if not path.is_symlink():
            runs = path.is_dir() or (path.parent.name == "DEBIAN" and path.name in SCRIPTS)
            path.chmod(0o755 if runs or path.parent == tree / "usr/bin" else 0o644)
        os.utime(path, (when, when), follow_symlinks=False)


def _walk(tree: Path) -> Iterator[Path]:
    yield from sorted(tree.rglob("*"), reverse=True)


def _last_change() -> str:
    """Return when the checkout was last changed (seconds since the epoch), for a package that can be built again."""
    if (ROOT / ".git").exists():
        return _output("git", "-C", str(ROOT), "log", "-1", "--format=%ct")
    return str(int((ROOT / "CHANGELOG.md").stat().st_mtime))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _run(*command: str | Path, env: dict[str, str] | None = None) -> None:
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=env)
    if done.returncode != 0:
        raise BuildError(
            f"{' '.join(words)}: exit code {done.returncode}:\n{done.stdout}{done.stderr}".rstrip()
        )


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError) as error:
        raise BuildError(f"{' '.join(command)}: {error}") from error


if __name__ == "__main__":
    sys.exit(main())
