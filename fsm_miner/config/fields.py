"""The kinds of values that a configuration holds: how each is read, and what is said when it is wrong."""

import os
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, TypedDict, cast
from urllib.parse import urlsplit

from annotated_types import GroupedMetadata, MaxLen
from pydantic import AfterValidator, BeforeValidator, Strict, ValidationInfo
from pydantic_core import PydanticCustomError

from fsm_miner.address_kinds import nobodys
from fsm_miner.config.secret import SecretRef, parse_secret_ref
from fsm_miner.config.units import Listen, parse_duration, parse_host_port, parse_listen

__all__ = [
    "LIST_MAX",
    "BaseUrl",
    "Duration",
    "HostPort",
    "ListenOn",
    "LogPath",
    "Many",
    "MaxMb",
    "NodeId",
    "PathHere",
    "SecretReference",
    "ShownPath",
    "Tag",
    "shown",
    "told",
]

LIST_MAX = 256
"""The most entries that any list may have."""

_NODE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:+-]{0,63}", re.ASCII)
_PATH_MAX = 4096
_SOCKETS = "services listen there, and read-only does not keep a job from talking to them"
_OWN = "the sandbox has one of its own"
_NEVER_SHOWN = {
    "/": "it holds everything, the daemon's own files and the sockets of services too",
    "/dev": _OWN,
    "/proc": _OWN,
    "/run": _SOCKETS,
    "/var/run": _SOCKETS,
}
_MB_MAX = 2**40


class _Context(TypedDict):
    """What validating needs to know beside the data: `base`, where relative paths start."""

    base: Path


def told(message: str) -> PydanticCustomError:
    """Make an error whose message is already meant for people."""
    return PydanticCustomError("told", "{text}", {"text": message})


def shown(value: object) -> str:
    """Show a wrong value in a message, short and on one line. Never call it on what may hold a secret."""
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return ascii(value if len(value) <= 60 else value[:57] + "...").replace("'", '"')
    if isinstance(value, int | float):
        return repr(value)
    return "a list" if isinstance(value, list | tuple) else "a section"


def _text(value: object) -> str:
    if not isinstance(value, str):
        hint = "; quote it" if isinstance(value, bool | int | float) else ""
        raise told(f"must be text, not {shown(value)}{hint}")
    return value


def _parsed(parse: Callable[[str], Any]) -> Callable[[object], Any]:
    """Turn a parser that raises ValueError into a validator that also shows the wrong value."""

    def check(value: object) -> Any:
        text = _text(value)
        try:
            return parse(text)
        except ValueError as error:
            raise told(f"{error}, not {shown(text)}") from None

    return check


def _pattern(pattern: re.Pattern[str], rule: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if not pattern.fullmatch(text):
            raise ValueError(rule)
        return text

    return parse


def _duration(value: object) -> object:
    # The one number that needs no unit.
    if value == 0 and type(value) is int:
        return timedelta(0)
    # A number without a unit gets the same advice as any other text that is no duration.
    return _parsed(parse_duration)(str(value) if isinstance(value, int | float) else value)


def _secret_ref(value: object) -> SecretRef:
    try:
        return parse_secret_ref(value)
    except ValueError as error:
        raise told(str(error)) from None


def _absolute(value: object) -> Path:
    text = _path_text(value)
    if not text.startswith("/"):
        raise told(f"must be an absolute path, not {shown(text)}")
    return Path("/" + os.path.normpath(text).lstrip("/"))


def _shown_path(value: object) -> Path:
    """Read a folder or file that jobs may see; not one that is the sandbox's own, or full of sockets."""
    path = _absolute(value)
    if str(path) in _NEVER_SHOWN:
        raise told(
            f"{path} can't be shown to jobs: {_NEVER_SHOWN[str(path)]}; name the folders in it that are needed"
        )
    return path


def _path_here(value: object, info: ValidationInfo) -> Path:
    """Read a path; a relative one starts at the folder of the configuration file."""
    text = _path_text(value)
    if text.startswith("~"):
        raise told(f"must be written out, ~ is not expanded: {shown(text)}")
    base = cast("_Context", info.context)["base"]
    return Path(os.path.normpath(base / text))


def _path_text(value: object) -> str:
    text = _text(value)
    if not text or len(text) > _PATH_MAX or not text.isprintable():
        raise told(f"must be a path of 1 to {_PATH_MAX} printable characters, not {shown(text)}")
    return text


def _log_path(value: object, info: ValidationInfo) -> Path | None:
    return None if value is None or value == "-" else _path_here(value, info)


def _listen(value: object) -> Listen | None:
    return None if value is None else _parsed(parse_listen)(value)


def _max_mb(value: object) -> int | None:
    if value is None or (type(value) is int and 0 <= value <= _MB_MAX):
        return value or None
    raise told(f"must be a whole number from 0 to {_MB_MAX} (0 is no limit), not {shown(value)}")


def _base_url(value: object) -> str:
    """Check the coordinator's address. What it held is shown only where it cannot hold a password."""
    text = _text(value)
    if "@" in text or "?" in text or "#" in text:
        raise told(
            "must be an address without user, password, query or fragment; the token goes into auth_token"
        )
    try:
        url = urlsplit(text)
        host, port = url.hostname, url.port
    except ValueError:
        host, port, url = None, None, urlsplit("")
    if (
        url.scheme not in ("https", "http")
        or not host
        or port == 0
        or not re.fullmatch(r"[\x21-\x7e]+", text)
    ):
        raise told(f'must be an address such as "https://coordinator.example/api/v1", not {shown(text)}')
    if url.scheme == "http" and not _is_loopback(host):
        raise told(
            "must start with https://; plain http:// is accepted only for this machine itself "
            "(localhost, 127.0.0.1, [::1]), because anybody on the way could read the token "
            f"and hand out jobs: {shown(text)}"
        )
    return text.rstrip("/")


def _host_port(value: object) -> str:
    """Read `host:port` of what jobs may reach."""
    found: str = _parsed(parse_host_port)(value)
    host = found.rpartition(":")[0].strip("[]")
    try:
        never = nobodys(ip_address(host))
    except ValueError:
        return found  # a name: what it leads to is judged when it is looked up
    if never is not None:
        raise told(f"{host} {never}, and reached by nobody: remove {shown(value)}")
    return found


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


NodeId = Annotated[
    str,
    BeforeValidator(
        _parsed(
            _pattern(
                _NODE_ID,
                "must be 1 to 64 of A-Z a-z 0-9 . _ - with a letter or digit first",
            )
        )
    ),
]
Tag = Annotated[
    str,
    BeforeValidator(
        _parsed(_pattern(_TAG, "must be 1 to 64 of A-Z a-z 0-9 . _ : + - with a letter or digit first"))
    ),
]
Duration = Annotated[timedelta, BeforeValidator(_duration)]
SecretReference = Annotated[SecretRef, BeforeValidator(_secret_ref)]
ShownPath = Annotated[Path, BeforeValidator(_shown_path)]
PathHere = Annotated[Path, BeforeValidator(_path_here)]
LogPath = Annotated[Path | None, BeforeValidator(_log_path)]
ListenOn = Annotated[Listen | None, BeforeValidator(_listen)]
HostPort = Annotated[str, BeforeValidator(_host_port)]
BaseUrl = Annotated[str, BeforeValidator(_base_url)]
MaxMb = Annotated[int | None, BeforeValidator(_max_mb)]


def _unique(values: Any) -> Any:
    if len(set(values)) != len(values):
        raise told("must not name the same entry twice")
    return values


class _ManyEntries(GroupedMetadata):
    """Goes with a `tuple[X, ...]`: YAML gives a list, of at most LIST_MAX entries, each once."""

    def __iter__(self) -> Iterator[object]:
        return iter((Strict(strict=False), MaxLen(LIST_MAX), AfterValidator(_unique)))


Many = _ManyEntries()
