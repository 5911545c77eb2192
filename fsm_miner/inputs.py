"""Bring a job's inputs into its folder: streamed, hashed on the way, bounded, one after the other.

An input is there under its name or not at all: it grows as `.part-<n>` and is renamed when it is
complete and right. What a failed or cancelled fetch leaves is removed; what a crash leaves is wiped by
the workspace before the next run. Hosts and addresses: `fsm_miner.addresses`.
"""

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import httpx

from fsm_miner.addresses import AddressRefusedError
from fsm_miner.input_rules import (
    PART_PREFIX,
    REDIRECTS,
    InputUrl,
    StoppedError,
    check_answer,
    check_url,
    content_length,
    failed,
    names_problem,
    parse_url,
    redirect_target,
    shown,
)
from fsm_miner.offload import offload
from runners.shortage import is_shortage, shortage_behind
from states.codes import ErrorCode, Failure

__all__ = ["FetchLimits", "FetchSettings", "Fetched", "InputUrl", "fetch_inputs"]

_CHUNK_BYTES = 1 << 20
_DISK_CHECK_BYTES = 16 << 20
_REDIRECTS_MAX = 5
_WORDS_CHARS_MAX = 160
# The identity encoding: the hash is of the bytes as they are, and no small body unfolds into a big one.
_HEADERS = {"Accept": "*/*", "Accept-Encoding": "identity"}


@dataclass(frozen=True, slots=True)
class Fetched:
    """One input that lies in the folder. `size` in bytes."""

    name: str
    size: int
    sha256: str


class FreeBytes(Protocol):
    """Tells how many bytes may still be written where a path lies (`workspace.free_bytes`)."""

    def __call__(self, path: Path, /) -> int: ...


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """Bounds of one job's inputs together: bytes, bytes that stay free on the disk, seconds."""

    total_bytes: int
    reserve_bytes: int
    total_s: float


@dataclass(frozen=True, slots=True)
class FetchSettings:
    """How inputs are fetched: the client that knows no token, and the bounds of one job's inputs."""

    client: httpx.AsyncClient
    limits: FetchLimits


async def fetch_inputs(
    urls: Sequence[InputUrl],
    inline: Mapping[str, str],
    into: Path,
    *,
    client: httpx.AsyncClient,
    limits: FetchLimits,
    free_bytes: FreeBytes,
) -> list[Fetched] | Failure:
    """Write the inline texts and download the URLs, in this order, to `into`, each mode 0444.

    Returns all of them or the first failure: E_INPUT (permanent for a wrong hash, a size over the limit
    and an answer that another try will not change), E_DENY for a URL or host not allowed, E_INVALID for
    a bad name, E_NORESOURCE for a full disk. What had been fetched before a failure stays in `into`,
    which belongs to the caller.

    `client` comes from `input_client`: it must have neither a token nor a redirect policy of its own.

    Raises:
        OSError: this process lacks something for a moment (`runners.shortage`).

    """
    assert "authorization" not in client.headers, "a coordinator's client must never fetch inputs"
    assert not client.follow_redirects
    problem = names_problem([*inline, *(item.name for item in urls)])
    if problem is not None:
        return Failure(ErrorCode.INVALID, problem)
    fetch = _Fetch(into, client, limits, free_bytes)
    try:
        async with asyncio.timeout(limits.total_s):
            done = [await fetch.text(name, text) for name, text in inline.items()]
            return done + [await fetch.download(item) for item in urls]
    except StoppedError as stopped:
        return stopped.failure
    except TimeoutError:
        return Failure(
            ErrorCode.INPUT, f"the inputs were not complete after {limits.total_s:.0f} s; {fetch.progress}"
        )
    except OSError as problem:
        if is_shortage(problem):
            raise
        return Failure(ErrorCode.NORESOURCE, f"inputs cannot be written to {into}: {problem.strerror}")


class _Fetch:
    """The inputs of one job while they are being fetched."""

    def __init__(
        self, into: Path, client: httpx.AsyncClient, limits: FetchLimits, free_bytes: FreeBytes
    ) -> None:
        self._into = into
        self._client = client
        self._limits = limits
        self._free_bytes = free_bytes
        self._bytes = 0
        self._parts = 0
        self.progress = "nothing had arrived"

    async def text(self, name: str, text: str) -> Fetched:
        """Write an inline input."""
        try:
            data = text.encode()
        except UnicodeEncodeError:
            raise StoppedError(
                Failure(ErrorCode.INVALID, f"input {name!r}: is not valid Unicode text")
            ) from None
        with _Part(self._into, self._next_part(), name) as part:
            await self._make_room(name, len(data))
            await self._write(part, name, data)
            return await offload(part.finish)

    async def download(self, item: InputUrl) -> Fetched:
        """Follow the URL, stream the body, compare the hash."""
        url = parse_url(item.url, item.name)
        try:
            for _ in range(_REDIRECTS_MAX + 1):
                check_url(url, item)
                target = await self._hop(url, item)
                if isinstance(target, Fetched):
                    return target
                url = target
        except AddressRefusedError as refused:
            message = f"input {item.name!r}: host not allowed here: {refused}"
            raise StoppedError(Failure(ErrorCode.DENY, message)) from refused
        except httpx.TransportError as problem:
            lacks_something = shortage_behind(problem)
            if lacks_something is not None:
                raise lacks_something from problem
            words = str(problem) or type(problem).__name__
            raise failed(item.name, f"{shown(str(url))}: {words[:_WORDS_CHARS_MAX]}") from problem
        except (httpx.InvalidURL, httpx.HTTPError, httpx.StreamError) as problem:
            raise failed(item.name, f"{shown(str(url))}: {type(problem).__name__}") from problem
        raise failed(item.name, f"more than {_REDIRECTS_MAX} redirects", permanent=True)

    async def _hop(self, url: httpx.URL, item: InputUrl) -> Fetched | httpx.URL:
        """Ask once: the file, or where it is said to be."""
        request = self._client.build_request("GET", url, headers=_HEADERS)
        response = await self._client.send(request, stream=True, auth=None)
        try:
            if response.status_code in REDIRECTS:
                return redirect_target(url, response, item)
            check_answer(response, item)
            return await self._receive(response, item)
        finally:
            await response.aclose()

    async def _receive(self, response: httpx.Response, item: InputUrl) -> Fetched:
        announced = content_length(response, item.name)
        with _Part(self._into, self._next_part(), item.name) as part:
            await self._make_room(item.name, announced or 0)
            checked_at = 0
            async for chunk in response.aiter_raw(_CHUNK_BYTES):
                if part.size + len(chunk) >= checked_at + _DISK_CHECK_BYTES:
                    await self._make_room(item.name, max(len(chunk), (announced or 0) - part.size))
                    checked_at = part.size
                await self._write(part, item.name, chunk)
            if announced is not None and part.size != announced:
                raise failed(item.name, f"cut off after {part.size} of {announced} bytes")
            if item.sha256 is not None and part.sha256 != item.sha256.lower():
                raise failed(
                    item.name,
                    f"{shown(item.url)}: its SHA-256 is {part.sha256} ({part.size} bytes), "
                    f"the manifest says {item.sha256}",
                    permanent=True,
                )
            return await offload(part.finish)

    async def _make_room(self, name: str, more_bytes: int) -> None:
        """Refuse what goes over the limit or fills the disk before it is written."""
        if self._bytes + more_bytes > self._limits.total_bytes:
            raise failed(
                name,
                f"has {more_bytes} bytes or more; the inputs together may have {self._limits.total_bytes}",
                permanent=True,
            )
        free = await offload(lambda: self._free_bytes(self._into))
        if more_bytes > free - self._limits.reserve_bytes:
            message = (
                f"input {name!r}: {more_bytes} bytes do not fit: {free} are free, "
                f"{self._limits.reserve_bytes} of them reserved"
            )
            raise StoppedError(Failure(ErrorCode.NORESOURCE, message))

    async def _write(self, part: "_Part", name: str, chunk: bytes) -> None:
        if self._bytes + len(chunk) > self._limits.total_bytes:
            raise failed(
                name, f"the inputs together go over {self._limits.total_bytes} bytes", permanent=True
            )
        self._bytes += len(chunk)
        try:
            await offload(lambda: part.write(chunk))
        except OSError as problem:
            message = f"input {name!r}: writing failed after {part.size} bytes: {problem.strerror}"
            raise StoppedError(Failure(ErrorCode.NORESOURCE, message)) from problem
        self.progress = f"{name!r} had {part.size} bytes"

    def _next_part(self) -> int:
        self._parts += 1
        return self._parts


class _Part:
    """A file that is not yet one: gone on leaving the block, unless finished."""

    def __init__(self, into: Path, number: int, name: str) -> None:
        self._path = into / f"{PART_PREFIX}{number}"
        self._final = into / name
        self._digest = hashlib.sha256()
        self.size = 0

    def __enter__(self) -> "_Part":
        self._path.unlink(missing_ok=True)
        self._file = self._path.open("xb", buffering=0)
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def write(self, chunk: bytes) -> None:
        self._digest.update(chunk)
        rest = memoryview(chunk)
        while rest:
            rest = rest[self._file.write(rest) :]
        self.size += len(chunk)

    def finish(self) -> Fetched:
        self._file.close()
        self._path.chmod(0o444)
        self._path.rename(self._final)
        return Fetched(self._final.name, self.size, self.sha256)
