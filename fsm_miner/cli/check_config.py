"""Checks of what people wrote: the configuration, the token and the CA file it names, the allowlist."""

import ssl
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from fsm_miner.cli.finding import Finding, Level, Lines, ok, placed, problem, warning
from fsm_miner.config import Config, ConfigError, load_config, resolve_secret, warnings_of
from fsm_miner.site.programs import Programs
from runners.allowlist import load

__all__ = ["check_allowlist", "check_config", "check_secret"]

_TOKEN_CHARS_LEAST = 8


def check_config(path: Path, lines: Lines) -> tuple[Config | None, list[Finding]]:
    """Load the configuration; return it if it is in order, and what was found."""
    try:
        config = load_config(path)
    except ConfigError as error:
        return None, [
            Finding(Level.PROBLEM, one.message, one.path or None, one.file, one.line)
            for one in error.problems
        ]
    found = [ok(f"{path}: node {config.node_id}, coordinator {config.coordinator.base_url}")]
    for text in warnings_of(config):
        key, _, message = text.partition(": ")
        found.append(warning(message, key, lines))
    found += _writable_by_all(path)
    found += _ca_file(config, lines)
    return config, found


def _ca_file(config: Config, lines: Lines) -> Iterator[Finding]:
    path = config.coordinator.ca_file
    if path is None:
        return
    key = "coordinator.ca_file"
    try:
        # The same call that the connection will make.
        found = ssl.create_default_context(cafile=str(path)).cert_store_stats()["x509"]
    except ssl.SSLError:
        yield problem(f"{path}: holds no certificate in PEM form", key, lines)
    except OSError as error:
        yield problem(f"{path}: {error.strerror}", key, lines)
    else:
        yield ok(f"{path}: {found} certificates", key)


def check_secret(config: Config, lines: Lines, environ: Mapping[str, str]) -> Finding:
    """Check that the bootstrap token can be had."""
    key, ref = "coordinator.auth_token", config.coordinator.auth_token
    if ref.kind == "credential" and "CREDENTIALS_DIRECTORY" not in environ:
        return warning(
            f"{ref}: not looked at: systemd hands it to the unit alone (LoadCredential={ref.name}:FILE). A daemon "
            "that does not get it ends with exit code 2, or with 243 where there is no file",
            key,
            lines,
        )
    try:
        token = resolve_secret(ref, environ, key)
    except ConfigError as error:
        return problem(error.problems[0].message, key, lines)
    if len(token.reveal()) < _TOKEN_CHARS_LEAST:
        return warning(
            f"{ref}: the token has less than {_TOKEN_CHARS_LEAST} characters: it can be "
            "guessed, and words that it happens to be in show as [redacted]",
            key,
            lines,
        )
    return ok(f"{ref}: there is a token", key)


def check_allowlist(config: Config, lines: Lines) -> Iterator[Finding]:
    """Check every allowlist file, and that jobs can run the programs."""
    section, key = config.runners.cli, "runners.cli.allowlist_files"
    if not section.enable:
        yield ok("off", "runners.cli.enable")
        return
    loaded = load([str(path) for path in section.allowlist_files])
    for text in loaded.problems:
        yield placed(Level.PROBLEM, text)
    for source in loaded.sources:
        yield from _writable_by_all(Path(source.path))
    programs = Programs(config)
    for rule in loaded.allowlist.rules:
        unfit = programs.problem(rule.path)
        if unfit is not None:
            message = f"{rule.name}: {unfit}; until then its jobs are given back (E_NORESOURCE)"
            yield Finding(Level.WARNING, message, None, rule.source)
    names = sorted(rule.name for rule in loaded.allowlist.rules)
    if names:
        yield ok(f"allowed: {', '.join(names)}", key)
    else:
        yield warning("no command is allowed, so every CLI job will be refused (E_DENY)", key, lines)


def _writable_by_all(path: Path) -> Iterator[Finding]:
    try:
        mode = path.stat().st_mode
    except OSError:
        return  # whoever reads it says so
    if mode & stat.S_IWOTH:
        yield Finding(
            Level.WARNING, f"everybody on this machine may change it; run: chmod o-w {path}", None, str(path)
        )
