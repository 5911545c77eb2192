"""The daemon's ports with fault points around every call. What they wrap knows nothing of it."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx

from fsm_miner.coordinator.port import (
    AckAnswer,
    Beat,
    BeatAnswer,
    Coordinator,
    DeliveryAnswer,
    FailureReport,
    ProgressAnswer,
    ProgressReport,
    PullAnswer,
    PullRequest,
    ReconcileAnswer,
    ReconcileJob,
    RegisterAnswer,
    ResultReport,
    UploadFile,
)
from fsm_miner.fault_points.points import FaultPoints
from fsm_miner.ports import Ports
from fsm_miner.upload_files import Uploads
from fsm_miner.worksite import Tell, Worksite
from journal.port import Entry, Journal, Record, StreamKey
from states.codes import Failure
from states.job import Job
from states.stimuli import (
    ArtifactsCollected,
    ArtifactsRefused,
    LaunchFailed,
    LaunchSucceeded,
    LimitHit,
    OutputDoubted,
    PrepDone,
    PrepFailed,
    ProcessFound,
    ProcessGone,
)

__all__ = ["FaultyPorts"]


class FaultyPorts(Ports):
    """Wraps what the daemon is put together from."""

    def __init__(self, points: FaultPoints) -> None:
        self._points = points

    def journal(self, journal: Journal) -> Journal:
        """Points `journal.append:<events>`."""
        return _FaultyJournal(journal, self._points)

    def coordinator(self, coordinator: Coordinator) -> Coordinator:
        """Points `coordinator.<call>` and, for each piece of a file that is sent, `upload.chunk`."""
        return _FaultyCoordinator(coordinator, self._points)

    def worksite(self, worksite: Worksite) -> Worksite:
        """Points `site.<instruction>`."""
        return _FaultySite(worksite, self._points)

    def inputs(self, client: httpx.AsyncClient) -> httpx.AsyncClient:
        """Point `download.chunk`, for each piece that arrives."""
        points = self._points

        async def spoil(response: httpx.Response) -> None:
            assert isinstance(response.stream, httpx.AsyncByteStream)
            response.stream = _FaultyStream(response.stream, points)

        client.event_hooks["response"].append(spoil)
        client.event_hooks = client.event_hooks
        return client


class _FaultyJournal:
    def __init__(self, journal: Journal, points: FaultPoints) -> None:
        self._journal = journal
        self._points = points

    async def append(self, key: StreamKey, expected_seq: int, entries: Sequence[Entry]) -> tuple[Record, ...]:
        point = f"journal.append:{'+'.join(entry.event for entry in entries)}"
        with self._points.around(point, key.job_id):
            return await self._journal.append(key, expected_seq, entries)

    def read(self, key: StreamKey) -> list[Record]:
        return self._journal.read(key)

    def streams(self) -> list[StreamKey]:
        return self._journal.streams()

    async def probe(self) -> None:
        await self._journal.probe()

    async def close(self) -> None:
        await self._journal.close()


class _FaultyCoordinator:
    def __init__(self, coordinator: Coordinator, points: FaultPoints) -> None:
        self._coordinator = coordinator
        self._points = points

    async def register(self, descriptor: Mapping[str, Any]) -> RegisterAnswer:
        with self._points.around("coordinator.register"):
            return await self._coordinator.register(descriptor)

    async def heartbeat(self, beat: Beat) -> BeatAnswer:
        with self._points.around("coordinator.heartbeat"):
            return await self._coordinator.heartbeat(beat)

    async def pull(self, request: PullRequest) -> PullAnswer:
        with self._points.around("coordinator.pull"):
            return await self._coordinator.pull(request)

    async def ack(self, job_id: str, attempt: int) -> AckAnswer:
        with self._points.around("coordinator.ack", job_id):
            return await self._coordinator.ack(job_id, attempt)

    async def progress(self, report: ProgressReport) -> ProgressAnswer:
        with self._points.around("coordinator.progress", report.job_id):
            return await self._coordinator.progress(report)

    async def result(self, report: ResultReport) -> DeliveryAnswer:
        files = tuple(_FaultyFile(file, self._points) for file in report.artifacts)
        with self._points.around("coordinator.result", report.job_id):
            return await self._coordinator.result(replace(report, artifacts=files))

    async def fail(self, report: FailureReport) -> DeliveryAnswer:
        with self._points.around("coordinator.fail", report.job_id):
            return await self._coordinator.fail(report)

    async def reconcile(self, jobs: Sequence[ReconcileJob]) -> ReconcileAnswer:
        with self._points.around("coordinator.reconcile"):
            return await self._coordinator.reconcile(jobs)

    async def close(self) -> None:
        await self._coordinator.close()


class _FaultyFile(UploadFile):
    """A file whose descriptor is asked for once for each piece that is read: the earlier ones are on their way."""

    def __init__(self, file: UploadFile, points: FaultPoints) -> None:
        super().__init__(file.fd, file.size, file.filename, file.content_type)
        object.__setattr__(self, "_points", points)

    def __getattribute__(self, name: str) -> Any:
        if name == "fd":
            super().__getattribute__("_points").before("upload.chunk")
        return super().__getattribute__(name)


class _FaultyStream(httpx.AsyncByteStream):
    def __init__(self, stream: httpx.AsyncByteStream, points: FaultPoints) -> None:
        self._stream = stream
        self._points = points

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._stream:
            self._points.before("download.chunk")
            yield piece

    async def aclose(self) -> None:
        await self._stream.aclose()


class _FaultySite:
    def __init__(self, site: Worksite, points: FaultPoints) -> None:
        self._site = site
        self._points = points

    async def prepare(self, job: Job) -> PrepDone | PrepFailed:
        with self._points.around("site.prepare", job.job_id):
            return await self._site.prepare(job)

    async def launch(self, job: Job, *, only_look: bool) -> LaunchSucceeded | LaunchFailed:
        with self._points.around("site.launch", job.job_id):
            return await self._site.launch(job, only_look=only_look)

    async def watch(self, job: Job, tell: Tell) -> ProcessFound | LimitHit | ProcessGone:
        with self._points.around("site.watch", job.job_id):
            return await self._site.watch(job, tell)

    async def stop(self, job: Job) -> ProcessGone:
        with self._points.around("site.stop", job.job_id):
            return await self._site.stop(job)

    async def collect(self, job: Job) -> ArtifactsCollected | ArtifactsRefused | OutputDoubted:
        with self._points.around("site.collect", job.job_id):
            return await self._site.collect(job)

    def parcel(self, job: Job) -> AbstractAsyncContextManager[Uploads | Failure]:
        return self._parcel(job)

    @asynccontextmanager
    async def _parcel(self, job: Job) -> AsyncGenerator[Uploads | Failure]:
        async with AsyncExitStack() as stack:
            with self._points.around("site.parcel", job.job_id):
                opened = await stack.enter_async_context(self._site.parcel(job))
            yield opened

    def snapshot(self, job: Job, extra: dict[str, Any]) -> None:
        with self._points.around("site.snapshot", job.job_id):
            self._site.snapshot(job, extra)

    def end_recorded(self, job: Job) -> None:
        self._site.end_recorded(job)

    def forget(self, job: Job) -> None:
        self._site.forget(job)
