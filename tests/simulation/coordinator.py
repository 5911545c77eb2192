"""A coordinator as the contract describes it, and the port through which one life of the daemon talks to it.

    queued ──pull──► offered ──ack──► leased ──result, fail──► over
      ▲                 │               │
      └──offer ran out──┘               └──lease ran out──► queued again or another node's, attempt + 1

An attempt has at most one outcome: the first that arrives. The same step again must have the same content.
"""

import asyncio
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fsm_miner.coordinator.port import (
    Absent,
    Acked,
    Beat,
    BeatTaken,
    Delivered,
    FailureReport,
    Gone,
    JobOffer,
    NothingToDo,
    ProgressReport,
    ProgressTaken,
    PullRequest,
    Reconciled,
    ReconcileJob,
    Refused,
    Registered,
    Rejected,
    ResultReport,
    Unauthorized,
    Unknown,
)
from tests.simulation.crash import Life
from tests.simulation.network import Fate, Network

__all__ = ["Client", "Habits", "Server", "ServerJob"]

Key = tuple[str, int]


@dataclass(frozen=True)
class _WithToken(Registered):
    """The answer to a registration, with what the real client keeps to itself."""

    token: int


@dataclass
class Habits:
    """What kind of coordinator this is."""

    registration: bool = True
    heartbeats: bool = True
    reconcile: bool = True
    progress: bool = True
    lease_s: float | None = 60.0
    offer_s: float = 15.0
    token_life_s: float | None = None
    long_poll_s: float = 30.0
    requeue_here: float = 0.5
    """How likely a lapsed job comes back to this node (as another attempt), rather than to another node."""
    offer_again: float = 0.0
    """How likely a pull is answered with a job that is this node's already, or over."""
    rejects_results: bool = False


@dataclass
class ServerJob:
    """One job, as the coordinator knows it."""

    job_id: str
    manifest: Mapping[str, Any]
    attempt: int = 1
    state: str = "queued"
    deadline_s: float | None = None
    cancel: bool = False
    submitted_s: float = 0.0

    @property
    def key(self) -> Key:
        return (self.job_id, self.attempt)


class Server:
    """The coordinator's memory. `note` takes a line for the history, `wrong` a broken promise."""

    def __init__(
        self,
        habits: Habits,
        chance: random.Random,
        note: Callable[[str], None],
        wrong: Callable[[str], None],
    ) -> None:
        self.habits = habits
        self.chance = chance
        self.note = note
        self.wrong = wrong
        self.jobs: dict[str, ServerJob] = {}
        self.acked: set[Key] = set()
        self.outcomes: dict[Key, tuple[str, str]] = {}
        """The recorded outcome of each attempt: its step and its content."""
        self.steps: dict[tuple[str, int, str], str] = {}
        self.words: dict[str, set[str]] = {}
        """What the coordinator said about a job that allows something destructive: "cancel", "gone", "abandon"."""
        self.superseded: set[Key] = set()
        self.tokens = 0
        self.token: int | None = None
        self.token_until_s: float | None = None
        self.last_beat_s: float | None = None
        self.submitted = asyncio.Event()

    @property
    def now_s(self) -> float:
        return asyncio.get_running_loop().time()

    def say(self, job_id: str, word: str) -> None:
        self.words.setdefault(job_id, set()).add(word)

    # The operator's side.

    def submit(self, manifest: Mapping[str, Any]) -> None:
        job = ServerJob(manifest["job_id"], manifest, submitted_s=self.now_s)
        self.jobs[job.job_id] = job
        self.note(f"submitted {job.job_id}")
        self.submitted.set()

    def cancel(self, job_id: str) -> None:
        job = self.jobs.get(job_id)
        if job is not None and job.state != "over":
            job.cancel = True
            self.note(f"the coordinator wants {job_id} cancelled")

    def give_away(self, job_id: str) -> None:
        """Decide that another node has the job."""
        job = self.jobs.get(job_id)
        if job is not None and job.state != "over":
            self.superseded.add(job.key)
            self.note(f"{job_id}/{job.attempt} is given to another node")
            job.attempt += 1
            job.state, job.deadline_s = "over", None

    def forget(self, job_id: str) -> None:
        """Lose the memory of a job."""
        job = self.jobs.pop(job_id, None)
        if job is not None:
            self.superseded.add(job.key)
            self.note(f"the coordinator forgets {job_id}")

    def revoke_tokens(self) -> None:
        self.token = None
        self.note("the coordinator forgets its tokens")

    # Time.

    def tick(self) -> None:
        """Take back what ran out."""
        for job in self.jobs.values():
            if job.deadline_s is None or self.now_s < job.deadline_s:
                continue
            job.deadline_s = None
            if job.state == "offered":
                job.state = "queued"
                self.note(f"the offer of {job.job_id}/{job.attempt} ran out")
                self.submitted.set()
            elif job.state == "leased":
                self.superseded.add(job.key)
                job.attempt += 1
                here = self.chance.random() < self.habits.requeue_here
                job.state = "queued" if here else "over"
                self.note(f"the lease of {job.job_id}/{job.attempt - 1} ran out: {job.state}")
                if here:
                    self.submitted.set()

    def deadline(self) -> float | None:
        return None if self.habits.lease_s is None else self.now_s + self.habits.lease_s

    @property
    def waiting(self) -> list[str]:
        """Jobs that this node still owes something, or could take."""
        return [job.job_id for job in self.jobs.values() if job.state != "over"]

    # The node's side: what each call does when it arrives.

    def register(self) -> Registered | Absent:
        if not self.habits.registration:
            return Absent()
        self.tokens += 1
        self.token = self.tokens
        life = self.habits.token_life_s
        self.token_until_s = None if life is None else self.now_s + life
        return _WithToken(life, frozenset(), self.tokens)

    def authorised(self, token: int | None) -> bool:
        if not self.habits.registration:
            return True
        fresh = self.token_until_s is None or self.now_s < self.token_until_s
        return token is not None and token == self.token and fresh

    def heartbeat(self, beat: Beat) -> BeatTaken | Absent:
        self.tick()
        if not self.habits.heartbeats:
            return Absent()
        self.last_beat_s = self.now_s
        for item in beat.running:
            job = self.jobs.get(item["job_id"])
            if job is not None and job.key == (item["job_id"], item["attempt"]) and job.state == "leased":
                job.deadline_s = self.deadline()
        cancel = tuple(job.job_id for job in self.jobs.values() if job.cancel and job.state == "leased")
        for job_id in cancel:
            self.say(job_id, "cancel")
        return BeatTaken(cancel)

    async def pull(self, request: PullRequest) -> JobOffer | NothingToDo:
        until_s = self.now_s + (request.wait_s or 0.0)
        while True:
            self.tick()
            if self.jobs and self.chance.random() < self.habits.offer_again:
                known = self.chance.choice(list(self.jobs.values()))
                if known.state in {"leased", "over"} and known.key in self.acked:
                    self.note(f"hands out {known.job_id}/{known.attempt} again")
                    return JobOffer(self._manifest(known))
            for job in self.jobs.values():
                if job.state == "queued" and self._fits(job, request):
                    job.state = "offered"
                    job.deadline_s = self.now_s + self.habits.offer_s
                    if job.attempt > 1:
                        self.say(job.job_id, "abandon")  # the earlier attempts
                    return JobOffer(self._manifest(job))
            left_s = until_s - self.now_s
            if left_s <= 0:
                return NothingToDo()
            self.submitted.clear()
            try:
                async with asyncio.timeout(min(left_s, 5.0)):
                    await self.submitted.wait()
            except TimeoutError:
                continue

    @staticmethod
    def _manifest(job: ServerJob) -> dict[str, Any]:
        return json.loads(json.dumps({**job.manifest, "attempt": job.attempt}))

    @staticmethod
    def _fits(job: ServerJob, request: PullRequest) -> bool:
        wants = job.manifest.get("requirements", {})
        if wants.get("gpu"):
            return any(free >= wants.get("vram_mb", 0) for free in request.gpus_vram_free_mb)
        return request.cpu_slots > 0

    def ack(self, job_id: str, attempt: int) -> Acked | Gone:
        self.tick()
        job = self.jobs.get(job_id)
        if job is None or job.attempt != attempt or (job.state == "over"):
            self.say(job_id, "gone")
            return Gone(404 if job is None else 409)
        job.state = "leased"
        job.deadline_s = self.deadline()
        self.acked.add(job.key)
        return Acked(self.habits.lease_s)

    def progress(self, report: ProgressReport) -> ProgressTaken | Absent:
        if not self.habits.progress:
            return Absent()
        job = self.jobs.get(report.job_id)
        cancel = job is not None and job.cancel and job.key == (report.job_id, report.attempt)
        if cancel:
            self.say(report.job_id, "cancel")
        return ProgressTaken(cancel)

    def deliver(self, key: Key, step: str, content: str) -> Delivered | Gone | Rejected:
        self.tick()
        if key not in self.acked:
            self.wrong(f"{key}: {step} of an attempt that was never acknowledged")
        before = self.steps.setdefault((*key, step), content)
        if before != content:
            self.wrong(f"{key}: {step} again, with the same key and other content: {before} then {content}")
        if step == "result" and self.habits.rejects_results:
            return Rejected(422, "not this one")
        recorded = self.outcomes.get(key)
        if recorded is not None:
            return Delivered(200) if recorded[0] == step else self._gone(key)
        job = self.jobs.get(key[0])
        if job is None or job.key != key or job.state == "over":
            return self._gone(key)
        self.outcomes[key] = (step, content)
        job.state, job.deadline_s = "over", None
        self.note(f"{key[0]}/{key[1]} {step} recorded")
        return Delivered(200)

    def _gone(self, key: Key) -> Gone:
        self.say(key[0], "gone")
        return Gone(409)

    def reconcile(self, asked: Sequence[ReconcileJob]) -> Reconciled | Absent:
        self.tick()
        if not self.habits.reconcile:
            return Absent()
        keep: set[str] = set()
        for one in asked:
            job = self.jobs.get(one.job_id)
            if job is not None and job.attempt == one.attempt and job.state in {"leased", "offered"}:
                keep.add(one.job_id)
        abandon = frozenset(one.job_id for one in asked) - keep
        for job_id in abandon:
            self.say(job_id, "abandon")
        return Reconciled(abandon)


@dataclass
class Client:
    """The port `Coordinator`, for one life: the network's fate decides what arrives, and what comes back."""

    server: Server
    network: Network
    life: Life
    watch: Callable[[str, Key | None], None]
    """Told of every call before it is made."""
    token: int | None = None
    settled: bool = False
    """Whether this life was ever told its standing."""

    async def _call(self, name: str, key: Key | None, act: Callable[[], Any]) -> Any:
        await self.life.check()
        self.watch(name, key)
        label = name if key is None else f"{name} {key[0]}/{key[1]}"
        await self.life.point(f"before {label}")
        fate = self.network.fate(name)
        if fate is not Fate.OK:
            self.server.note(f"network: {label}: {fate}")
        await self.network.travel()
        await self.life.check()
        if fate is Fate.TOKEN_GONE:
            self.server.token = None
        if fate is Fate.REQUEST_LOST:
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

    async def register(self, descriptor: Mapping[str, Any]) -> Registered | Refused | Absent | Unknown:
        answer = await self._call("register", None, self.server.register)
        if isinstance(answer, _WithToken):
            self.token = answer.token
        self.settled = self.settled or not isinstance(answer, Unknown)
        return answer

    async def heartbeat(self, beat: Beat) -> Any:
        return await self._call("heartbeat", None, lambda: self.server.heartbeat(beat))

    async def pull(self, request: PullRequest) -> Any:
        return await self._call("pull", None, lambda: self.server.pull(request))

    async def ack(self, job_id: str, attempt: int) -> Any:
        return await self._call("ack", (job_id, attempt), lambda: self.server.ack(job_id, attempt))

    async def progress(self, report: ProgressReport) -> Any:
        key = (report.job_id, report.attempt)
        return await self._call("progress", key, lambda: self.server.progress(report))

    async def result(self, report: ResultReport) -> Any:
        key = (report.job_id, report.attempt)
        content = json.dumps(report.metadata, sort_keys=True)
        return await self._call("result", key, lambda: self.server.deliver(key, "result", content))

    async def fail(self, report: FailureReport) -> Any:
        key = (report.job_id, report.attempt)
        content = json.dumps([report.error_code, report.error_msg, report.logs_ref, report.retryable])
        return await self._call("fail", key, lambda: self.server.deliver(key, "fail", content))

    async def reconcile(self, jobs: Sequence[ReconcileJob]) -> Any:
        return await self._call("reconcile", None, lambda: self.server.reconcile(jobs))

    async def close(self) -> None:
        return
