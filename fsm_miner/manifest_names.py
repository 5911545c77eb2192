"""The rules for names that come from outside: job ids, file names, paths, variables, URLs.

Each `*_problem` function answers None where the value is good, otherwise what is wrong with it, in words
that never repeat the value (it may be long, unprintable, or a secret).
"""

import ipaddress
import re
from urllib.parse import SplitResult, unquote, urlsplit

from fsm_miner.config.units import parse_host_port

__all__ = [
    "SHA256",
    "artifact_path_problem",
    "env_denied",
    "env_name_problem",
    "file_name_problem",
    "host_port_problem",
    "is_loopback",
    "is_usable_id",
    "media_type_problem",
    "name_from_url",
    "task_name_problem",
    "text_problem",
    "url_needs_hash",
    "url_problem",
]

NAME_BYTES_MAX = 255  # NAME_MAX of every Linux file system
PATH_BYTES_MAX = 1024
PATH_DEPTH_MAX = 16
URL_CHARS_MAX = 8192
DERIVED_NAME_CHARS_MAX = 60  # at most 240 bytes of UTF-8

SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_ENV = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_TASK = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
# RFC 6838, section 4.2 for the names, RFC 9110, section 5.6.6 for the parameters.
_MEDIA_TYPE = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}"
    r"(?:; ?[A-Za-z0-9_-]{1,64}=[A-Za-z0-9_.+-]{1,64}){0,4}"
)

# Variables by which a program loads code, runs a shell, finds its files or its GPU: they are the node's
# to set, never a job's. A name below is refused as it is, a prefix with everything that begins so.
_DENIED_PREFIXES = (
    "BASH",
    "DYLD_",
    "FSM_MINER",
    "GIT_",
    "GST_PLUGIN",
    "LD_",
    "LIBVA_DRIVER",
    "MALLOC_",
    "MINER_",
    "NVIDIA_",
    "OPENSSL_",
    "PERL",
    "PYTHON",
    "RUBY",
)
_DENIED_NAMES = frozenset(
    {
        "CDPATH",
        "CLASSPATH",
        "CUDA_INJECTION32_PATH",
        "CUDA_INJECTION64_PATH",
        "CUDA_VISIBLE_DEVICES",
        "ENV",
        "FFREPORT",
        "GCONV_PATH",
        "GLIBC_TUNABLES",
        "GLOBIGNORE",
        "GTK_MODULES",
        "HOME",
        "HOSTALIASES",
        "IFS",
        "JAVA_TOOL_OPTIONS",
        "JDK_JAVA_OPTIONS",
        "LOCALDOMAIN",
        "LOCPATH",
        "NLSPATH",
        "NODE_OPTIONS",
        "NODE_PATH",
        "PATH",
        "PROMPT_COMMAND",
        "PS4",
        "QT_PLUGIN_PATH",
        "RESOLV_HOST_CONF",
        "RES_OPTIONS",
        "SHELL",
        "SHELLOPTS",
        "TMPDIR",
        "_JAVA_OPTIONS",
    }
)


def is_usable_id(value: object) -> bool:
    """Whether `value` can name a job everywhere: in a path, a header, a cgroup and the journal."""
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def text_problem(value: str) -> str | None:
    """Judge a text that goes to a process: whole Unicode characters and no NUL."""
    if "\0" in value:
        return "contains a NUL character"
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return "contains half of a surrogate pair"
    return None


def file_name_problem(name: str) -> str | None:
    """Judge one path component. `isprintable` refuses controls, surrogates and text-direction marks."""
    if not name:
        return "is an empty name"
    if name in {".", ".."}:
        return 'must not be or contain "." or ".."'
    if not name.isprintable():
        return "contains a control or unprintable character"
    if "/" in name or "\\" in name:
        return "contains a slash or backslash"
    if name.startswith("-") or name != name.strip():
        return "begins with a dash, or begins or ends with a space"
    if len(name.encode("utf-8")) > NAME_BYTES_MAX:
        return f"has a name longer than {NAME_BYTES_MAX} bytes"
    return None


def artifact_path_problem(path: str) -> str | None:
    """Judge a relative POSIX path inside a job's workspace."""
    if path.startswith("/"):
        return "must be relative, without a slash at the front"
    if len(path) > PATH_BYTES_MAX or path.count("/") >= PATH_DEPTH_MAX:
        return f"is longer than {PATH_BYTES_MAX} bytes or deeper than {PATH_DEPTH_MAX} folders"
    for component in path.split("/"):
        problem = file_name_problem(component)
        if problem is not None:
            return problem
    if len(path.encode("utf-8")) > PATH_BYTES_MAX:
        return f"is longer than {PATH_BYTES_MAX} bytes"
    return None


def media_type_problem(value: str) -> str | None:
    """Judge a media type; it ends up in a header of the upload."""
    if _MEDIA_TYPE.fullmatch(value) is None:
        return 'is not a media type such as "video/mp4"'
    return None


def env_name_problem(name: str) -> str | None:
    """Judge the form of an environment variable's name (whether it is allowed: `env_denied`)."""
    if _ENV.fullmatch(name) is None:
        return "has a name that is not letters, digits and underscores, at most 128"
    return None


def env_denied(name: str) -> bool:
    """Whether a job may not set this variable, because it changes what runs or where."""
    return name in _DENIED_NAMES or name.startswith(_DENIED_PREFIXES)


def task_name_problem(name: str) -> str | None:
    """Judge the name of a task module."""
    if _TASK.fullmatch(name) is None:
        return "is not a module's name: letters, digits and underscores, at most 64"
    return None


def host_port_problem(value: str) -> str | None:
    """Judge one `host:port` of `network.allow`."""
    try:
        parse_host_port(value)
    except ValueError:
        return 'is not "host:port"'
    return None


def is_loopback(host: str) -> bool:
    """Whether a URL's host is this machine: `localhost`, 127.0.0.0/8 or ::1."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises ValueError where it is no port
    except ValueError:
        return None
    return parts


def url_problem(url: str) -> str | None:
    """Judge an input's URL: http or https, a host, no credentials, printable ASCII only."""
    if len(url) > URL_CHARS_MAX:
        return f"is longer than {URL_CHARS_MAX} characters"
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        return "contains a character that a URL cannot hold; percent-encode it"
    parts = _split(url)
    if parts is None or not parts.hostname:
        return "is not a URL with a host and a valid port"
    if parts.scheme not in {"http", "https"}:
        return "is neither https:// nor http://"
    if "@" in parts.netloc:
        return "must not carry credentials; use secrets or a signed URL"
    return None


def url_needs_hash(url: str) -> bool:
    """Whether a (valid) URL can be trusted only with a hash: plain http to another machine."""
    parts = urlsplit(url)
    return parts.scheme == "http" and not is_loopback(parts.hostname or "")


def name_from_url(url: str, number: int) -> str:
    """Derive a safe file name from a (valid) URL's last path segment; `input<number>` where there is none."""
    segment = unquote(urlsplit(url).path.rsplit("/", 1)[-1], errors="replace")
    safe = "".join(char if char.isalnum() or char in "._-" else "_" for char in segment)
    return safe[-DERIVED_NAME_CHARS_MAX:].lstrip(".-") or f"input{number}"
