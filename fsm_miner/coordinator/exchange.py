"""One request, one bounded answer: the only place that knows httpx, and the only one that maps its errors.

It speaks to httpx's transport directly: no redirects, no cookies, no proxies from the environment and no
transparent decompression exist at this level, and a call costs a quarter less than through a client.
"""

import asyncio
import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from fsm_miner import __version__
from fsm_miner.coordinator.multipart import FileChanged, Multipart
from fsm_miner.coordinator.port import Unknown
from fsm_miner.coordinator.retry_after import retry_after_s
from fsm_miner.manifest_names import is_loopback

__all__ = ["Exchange", "Reply", "checked_base_url"]

KEEPALIVE_S = 5.0
CONNECTIONS_MAX = 128
REASON_CHARS_MAX = 300
# An upload slower than this is given up and begun again: a bound, far below any usable line.
UPLOAD_BYTES_PER_S_MIN = 4096


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete answer. `reason` is for people: the status, and the body's beginning where it is no success."""

    status: int
    body: bytes
    is_html: bool
    retry_after_s: float | None
    reason: str

    @property
    def is_success(self) -> bool:
        """Whether the status says that the call was done."""
        return self.status in {200, 201, 202, 204}


class _TooLarge(Exception):
    pass


class _Encoded(Exception):
    pass


def checked_base_url(base_url: str) -> httpx.URL:
    """Judge `coordinator.base_url`: https, or http to this machine only (specification, section 13).

    Raises:
        ValueError: says what is wrong and what to write instead.

    """
    try:
        url = httpx.URL(base_url.rstrip("/"))
    except httpx.InvalidURL as exc:
        raise ValueError(f"coordinator.base_url: is not a URL: {exc}") from None
    if url.scheme not in {"http", "https"} or not url.host:
        raise ValueError("coordinator.base_url: must be https://host/path")
    if url.userinfo or url.query or url.fragment:
        raise ValueError("coordinator.base_url: must have no credentials, query or fragment")
    if url.scheme == "http" and not is_loopback(url.host):
        raise ValueError("coordinator.base_url: http:// is for this machine only; use https://")
    return url


def _tls(url: httpx.URL, verify: bool, ca_file: Path | None) -> ssl.SSLContext:
    """Trust `ca_file` alone where one is given, else the system's authorities.

    Raises:
        OSError: the file cannot be read, or holds no certificate.

    """
    if url.scheme == "http":
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # never used; loading authorities takes 15 ms
    context = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class Exchange:
    """Connections to one coordinator. Times in seconds; `now_ns` is UTC (Retry-After may be a date).

    `hidden` answers the tokens that no reason may repeat, beside the one of the call itself: an answer may
    echo any of them.
    """

    def __init__(
        self,
        base_url: str,
        *,
        timeout_s: float,
        hidden: Callable[[], Iterable[str]],
        tls_verify: bool = True,
        ca_file: Path | None = None,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._base = checked_base_url(base_url)
        self._timeout_s = timeout_s
        self._hidden = hidden
        self._now_ns = now_ns
        self._transport = httpx.AsyncHTTPTransport(
            verify=_tls(self._base, tls_verify, ca_file),
            trust_env=False,
            limits=httpx.Limits(max_connections=CONNECTIONS_MAX, keepalive_expiry=KEEPALIVE_S),
        )
        self._headers: tuple[tuple[bytes, bytes], ...] = (
            (b"Host", self._base.netloc),
            (b"User-Agent", f"fsm-miner/{__version__}".encode("ascii")),
            (b"Accept", b"application/json"),
            (b"Accept-Encoding", b"identity"),
        )

    def url(self, path: str, query: str = "") -> httpx.URL:
        """Return the URL of an endpoint; `query` is encoded already."""
        raw = self._base.raw_path.rstrip(b"/") + path.encode("ascii")
        return self._base.copy_with(raw_path=raw + (b"?" + query.encode("ascii") if query else b""))

    async def post(
        self,
        url: httpx.URL,
        *,
        token: str,
        body: bytes | Multipart,
        limit: int,
        headers: Mapping[str, str],
        wait_s: float = 0.0,
    ) -> Reply | Unknown:
        """Send, and read an answer of at most `limit` bytes. `wait_s` is added to the time the answer may take."""
        length = len(body) if isinstance(body, bytes) else body.length
        content_type = "application/json" if isinstance(body, bytes) else body.content_type
        timeout = self._timeout_s
        try:
            sent = [
                *self._headers,
                (b"Authorization", f"Bearer {token}".encode("ascii")),
                (b"Content-Type", content_type.encode("ascii")),
                (b"Content-Length", str(length).encode("ascii")),
                *((name.encode("ascii"), value.encode("ascii")) for name, value in headers.items()),
            ]
            request = httpx.Request(
                "POST",
                url,
                headers=sent,
                stream=httpx.ByteStream(body) if isinstance(body, bytes) else body.stream(),
                extensions={
                    "timeout": {
                        "connect": timeout,
                        "read": timeout + wait_s,
                        "write": timeout,
                        "pool": timeout,
                    }
                },
            )
            # The timeouts above are for each step: a peer that trickles would pass them for ever.
            async with asyncio.timeout(2 * timeout + wait_s + length / UPLOAD_BYTES_PER_S_MIN):
                response = await self._transport.handle_async_request(request)
                try:
                    return self._reply(response, await _bounded(response, limit), token)
                finally:
                    await response.aclose()
        except (
            httpx.HTTPError,
            OSError,
            ValueError,
            FileChanged,
            _TooLarge,
            _Encoded,
        ) as exc:
            return Unknown(_printable(_what_happened(exc, limit), {token, *self._hidden()}))

    def _reply(self, response: httpx.Response, body: bytes, token: str) -> Reply:
        status = response.status_code
        content_type = response.headers.get("content-type", "")
        reason = f"HTTP {status}"
        if 300 <= status < 400:
            reason = f"HTTP {status}: redirects are not followed; correct coordinator.base_url"
        elif status >= 400 and body:
            # All of it is searched for the token before it is cut: half a token would not be found.
            reason = _printable(
                f"{reason}: {body.decode('utf-8', errors='replace')}", {token, *self._hidden()}
            )
        return Reply(
            status=status,
            body=body,
            is_html="html" in content_type.lower() or body[:64].lstrip().startswith(b"<"),
            retry_after_s=retry_after_s(response.headers.get("retry-after"), self._now_ns),
            reason=reason,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.aclose()


async def _bounded(response: httpx.Response, limit: int) -> bytes:
    if response.headers.get("content-encoding", "identity").strip().lower() not in {"identity", ""}:
        raise _Encoded
    declared = response.headers.get("content-length", "")
    if len(declared) > 12 or (declared.isdecimal() and int(declared) > limit):
        raise _TooLarge
    chunks: list[bytes] = []
    size = 0
    async for chunk in response.aiter_raw():
        size += len(chunk)
        if size > limit:
            raise _TooLarge
        chunks.append(chunk)
    return b"".join(chunks)


def _what_happened(exc: Exception, limit: int) -> str:
    match exc:
        case httpx.ConnectTimeout():
            text = "no connection in time"
        case httpx.TimeoutException() | TimeoutError():
            text = "no complete answer in time"
        case httpx.ConnectError() if "CERTIFICATE_VERIFY_FAILED" in str(exc):
            text = f"the coordinator's certificate is not trusted: {exc}; check coordinator.ca_file and the host name"
        case httpx.ConnectError():
            text = f"cannot connect: {exc}"
        case httpx.LocalProtocolError() | UnicodeEncodeError():
            # The library's own words may hold a header's value, and so the token.
            text = (
                "the request cannot be sent as HTTP: a header holds a forbidden character, or a size is wrong"
            )
        case httpx.RemoteProtocolError() | ValueError():
            text = f"the answer is cut off or no HTTP: {exc}"
        case FileChanged():
            text = str(exc)
        case _TooLarge():
            text = f"the answer is larger than {limit} bytes"
        case _Encoded():
            text = "the answer is compressed, which was not asked for"
        case _:
            text = f"the connection broke ({type(exc).__name__}): {exc}"
    return text


def _printable(text: str, hidden: Iterable[str]) -> str:
    for token in hidden:
        if token:
            text = text.replace(token, "***")
    return "".join(char if char.isprintable() else " " for char in text[:REASON_CHARS_MAX])
