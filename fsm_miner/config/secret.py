"""Secrets: named in the configuration, fetched when the daemon starts, held in memory, never shown.

A configuration holds a reference (`env:NAME`, `file:/path`, `credential:NAME`) and never the secret itself,
so that it may be read, shared and put under version control.
"""

import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal, NoReturn

from fsm_miner.config.files import FileRefused, read_small_file
from fsm_miner.config.problem import ConfigError, Problem

__all__ = ["REDACTED", "SECRET_BYTES_MAX", "Secret", "SecretRef", "parse_secret_ref", "resolve_secret"]

REDACTED = "[redacted]"
SECRET_BYTES_MAX = 16 * 1024

Kind = Literal["env", "file", "credential"]

_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}", re.ASCII)
_CREDENTIAL_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}", re.ASCII)
_VISIBLE = re.compile(r"[\x21-\x7e]+", re.ASCII)
_HOW = "write env:NAME (an environment variable), file:/path or credential:NAME (systemd's LoadCredential=)"


class Secret:
    """A secret in memory. Only `reveal` gives it away; it shows as `[redacted]` and cannot be pickled."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the secret itself, for the one call that needs it."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret({REDACTED})"

    def __str__(self) -> str:
        return REDACTED

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(
            *(text.encode(errors="surrogatepass") for text in (self._value, other._value))
        )

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret stays in the memory of this process: it can be neither pickled nor copied")


@dataclass(frozen=True, slots=True)
class SecretRef:
    """Where a secret is to be found. Holds no secret itself."""

    kind: Kind
    name: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"


def parse_secret_ref(value: object) -> SecretRef:
    """Read a reference.

    Raises:
        ValueError: it is none. The message never repeats the value, which may be the secret itself.

    """
    kind, colon, name = value.partition(":") if isinstance(value, str) else ("", "", "")
    if not colon or kind not in ("env", "file", "credential"):
        raise ValueError(f"must say where the secret is and must not be the secret itself: {_HOW}")
    if kind == "env" and not _ENV_NAME.fullmatch(name):
        raise ValueError(
            "env: must be followed by the name of an environment variable, such as env:MINER_AUTH"
        )
    if kind == "credential" and not _CREDENTIAL_NAME.fullmatch(name):
        raise ValueError("credential: must be followed by a credential's name, such as credential:miner-auth")
    if kind == "file" and not (PurePosixPath(name).is_absolute() and name.isprintable()):
        raise ValueError("file: must be followed by an absolute path, such as file:/etc/aitbc/miner/token")
    return SecretRef(kind, name)


def resolve_secret(
    ref: SecretRef, environ: Mapping[str, str], where: str = "coordinator.auth_token"
) -> Secret:
    """Fetch the secret that `ref` names; `where` is the key it stands under, for messages.

    Raises:
        ConfigError: it is missing, empty, unreadable or open to everybody. Never says the value.

    """
    try:
        raw = _fetch(ref, environ)
        return Secret(_checked(raw))
    except ValueError as error:
        raise ConfigError([Problem(None, None, where, f"{ref}: {error}")]) from None


def _fetch(ref: SecretRef, environ: Mapping[str, str]) -> str:
    if ref.kind == "env":
        value = environ.get(ref.name)
        if value is None:
            raise ValueError(
                f"the environment variable {ref.name} is not set; set it where the daemon is started "
                "(systemd: EnvironmentFile= of the unit)"
            )
        return value
    if ref.kind == "file":
        return _read(Path(ref.name))
    folder = environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        raise ValueError(
            "systemd passed no credentials (CREDENTIALS_DIRECTORY is not set); "
            f"add LoadCredential={ref.name}:/path to the unit"
        )
    return _read(Path(folder) / ref.name)


def _read(path: Path) -> str:
    try:
        found = read_small_file(path, SECRET_BYTES_MAX)
    except FileRefused as error:
        raise ValueError(str(error)) from None
    if found.mode & 0o007:
        raise ValueError(f"everybody on this machine may open {path}; run: chmod o= {path}")
    try:
        text = found.content.decode()
    except UnicodeDecodeError:
        raise ValueError("it is not text") from None
    return text.removesuffix("\n").removesuffix("\r")


def _checked(text: str) -> str:
    if not text:
        raise ValueError("it is empty")
    if len(text) > SECRET_BYTES_MAX:
        raise ValueError(f"it is longer than {SECRET_BYTES_MAX} bytes")
    # It goes into an HTTP header (RFC 6750, section 2.1); a newline in it would be a second header.
    if not _VISIBLE.fullmatch(text):
        raise ValueError("it must be one line of visible ASCII characters without spaces")
    return text
