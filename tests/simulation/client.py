"""The client of one life of the daemon: the network's fate decides what arrives, and what comes back."""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fsm_miner.coordinator.port import (
    Absent,
    Beat,
    FailureReport,
    ProgressReport,
    PullRequest,
    ReconcileJob,
    Refused,
    Registered,
    ResultReport,
    Unauthorized,
    Unknown,
)
from tests.simulation.coordinator import Key, Server, WithToken
from tests.simulation.crash import Life
from tests.simulation.network import Fate, Network

__all__ = ["Client", "Post"]


class Post:
    """Requests on their way that nobody waits for any more: they arrive late, whoever sent them."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._sent = 0
        self._under_way: dict[int, tuple[asyncio.TimerHandle, str, int | None, Callable[[], Any]]] = {}

    def send(self, after_s: float, label: str, token: int | None, arrives: Callable[[], Any]) -> None:
        self._sent += 1
        timer = asyncio.get_running_loop().call_later(after_s, self._arrive, self._sent)
        self._under_way[self._sent] = (timer, label, token, arrives)

    def _arrive(self, number: int) -> None:
        timer, label, token, arrives = self._under_way.pop(number)
        timer.cancel()
        if label.startswith("register") or self._server.authorised(token):
            self._server.note(f"arrives late: {label}")
            self._server.confused = True
            arrives()

    def all_arrives(self) -> None:
        """Bring what is still under way when all is over."""
        for number in list(self._under_way):
            self._arrive(number)


@dataclass
class Client:
    """The port `Coordinator`."""

    server: Server
    network: Network
    post: Post
    life: Life
    watch: Callable[[str, Key | None], None]
    """Told of every call before it is made."""
    fault: Callable[[str], None]
    failing: Callable[[Key, str], None]
    """Told of every failure, and its code, before it is sent."""
    token: int | None = None
    settled: bool = False
    """Whether this life was ever told its standing."""
    delivering: list[Key] = field(default_factory=list)
    """The deliveries that are under way now, in the order in which they began."""

    async def _call(
        self, name: str, key: Key | None, act: Callable[[], Any], late: Callable[[], Any] | None = None
    ) -> Any:
        await self.life.check()
        self.watch(name, key)
        label = name if key is None else f"{name} {key[0]}/{key[1]}"
        await self.life.point(f"before {label}")
        fate = self.network.fate(name)
        if fate is not Fate.OK:
            self.fault(f"network: {fate}")
            self.server.note(f"network: {label}: {fate}")
        await self.network.travel()
        await self.life.check()
        if fate is Fate.TOKEN_GONE:
            self.server.revoke_tokens()
        if fate in {Fate.LATE, Fate.TWICE}:
            self.post.send(self.network.lateness_s(), label, self.token, late or act)
        if fate in {Fate.REQUEST_LOST, Fate.LATE}:
            await asyncio.sleep(self.network.timeout_s)
            return Unknown("timed out")
        if fate is Fate.SERVER_ERROR:
            return Unknown("503")
        if fate is Fate.BUSY:
            return Unknown("429", retry_after_s=self.network.chance.uniform(1, 30))
        if name != "register" and not self.server.authorised(self.token):
            return Unauthorized("the token is not known")
        answer = act()
        if asyncio.iscoroutine(answer):
            answer = await answer
        await self.life.point(f"after {label}")
        if fate is Fate.ANSWER_LOST:
            await asyncio.sleep(self.network.timeout_s)
            return Unknown("the answer was cut off")
        await self.network.travel()
        await self.life.check()
        return answer

    async def _deliver(self, key: Key, step: str, content: str) -> Any:
        self.delivering.append(key)
        try:
            return await self._call(step, key, lambda: self.server.deliver(key, step, content))
        finally:
            self.delivering.remove(key)

    async def register(self, descriptor: Mapping[str, Any]) -> Registered | Refused | Absent | Unknown:
        answer = await self._call("register", None, self.server.register)
        if isinstance(answer, WithToken):
            self.token = answer.token
        self.settled = self.settled or not isinstance(answer, Unknown)
        return answer

    async def heartbeat(self, beat: Beat) -> Any:
        return await self._call("heartbeat", None, lambda: self.server.heartbeat(beat))

    async def pull(self, request: PullRequest) -> Any:
        return await self._call(
            "pull", None, lambda: self.server.pull(request), lambda: self.server.pull_now(request)
        )

    async def ack(self, job_id: str, attempt: int) -> Any:
        return await self._call("ack", (job_id, attempt), lambda: self.server.ack(job_id, attempt))

    async def progress(self, report: ProgressReport) -> Any:
        key = (report.job_id, report.attempt)
        return await self._call("progress", key, lambda: self.server.progress(report))

    async def result(self, report: ResultReport) -> Any:
        content = json.dumps(report.metadata, sort_keys=True)
        return await self._deliver((report.job_id, report.attempt), "result", content)

    async def fail(self, report: FailureReport) -> Any:
        self.failing((report.job_id, report.attempt), report.error_code)
        content = json.dumps([report.error_code, report.error_msg, report.logs_ref, report.retryable])
        return await self._deliver((report.job_id, report.attempt), "fail", content)

    async def reconcile(self, jobs: Sequence[ReconcileJob]) -> Any:
        return await self._call("reconcile", None, lambda: self.server.reconcile(jobs))

    async def close(self) -> None:
        return
