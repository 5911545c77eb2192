"""A coordinator as the contract describes it, with a memory that may become an older one.

    queued ──pull──► offered ──ack──► leased ──result, fail──► over
      ▲                 │               │
      └──offer ran out──┘               └──lease ran out──► queued again or another node's, attempt + 1

An attempt has at most one outcome: the first that arrives. The same step again must have the same content.
"""

import asyncio
import copy
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fsm_miner.coordinator.port import (
    Absent,
    Acked,
    Beat,
    BeatTaken,
    Delivered,
    Gone,
    JobOffer,
    NothingToDo,
    ProgressReport,
    ProgressTaken,
    PullRequest,
    Reconciled,
    ReconcileJob,
    Registered,
    Rejected,
)
from tests.simulation.garbage import MANIFESTS, NOBODYS
from tests.simulation.scenario import Habits

__all__ = ["PATIENCE_S", "Key", "Server", "ServerJob", "WithToken"]

Key = tuple[str, int]
_RESUBMITTED_S = 60.0
PATIENCE_S = 2 * 3600.0


@dataclass(frozen=True)
class WithToken(Registered):
    """The answer to a registration, with what the real client keeps to itself."""

    token: int


@dataclass
class ServerJob:
    """One job, as the coordinator knows it."""

    job_id: str
    manifest: Mapping[str, Any]
    attempt: int = 1
    state: str = "queued"
    deadline_s: float | None = None
    cancel: bool = False
    cancel_for_ever: bool = False

    @property
    def key(self) -> Key:
        return (self.job_id, self.attempt)


@dataclass
class Memory:
    """What a database holds: all that is lost when an older one takes its place."""

    jobs: dict[str, ServerJob] = field(default_factory=dict)
    acked: set[Key] = field(default_factory=set)
    outcomes: dict[Key, tuple[str, str]] = field(default_factory=dict)
    """The recorded outcome of each attempt: its step and its content."""
    superseded: set[Key] = field(default_factory=set)
    token: int | None = None
    token_until_s: float | None = None


class Server:
    """The coordinator. `note` takes a line for the history, `fault` a kind of trouble, `holds` a promise."""

    def __init__(
        self,
        habits: Habits,
        chance: random.Random,
        note: Callable[[str], None],
        fault: Callable[[str], None],
        holds: Callable[[str, bool, str], None],
    ) -> None:
        self.habits = habits
        self.chance = chance
        self.note = note
        self.fault = fault
        self.holds = holds
        self.memory = Memory()
        self.backups: dict[Any, Memory] = {}
        self.histories = 1
        self.confused = False
        """Whether it may believe what never was so: then a lease without an end gets one."""
        # What really happened, whatever the database says.
        self.handed_out: set[str] = set()
        self.ever_acked: set[Key] = set()
        self.ever_recorded: list[tuple[int, Key, str]] = []
        self.contents: dict[tuple[str, int, str], str] = {}
        self.words: dict[str, set[str]] = {}
        """What it said about a job that allows something destructive: "cancel", "gone", "abandon"."""
        self.tokens = 0
        self.submitted = asyncio.Event()

    @property
    def now_s(self) -> float:
        return asyncio.get_running_loop().time()

    @property
    def jobs(self) -> dict[str, ServerJob]:
        return self.memory.jobs

    def say(self, job_id: str, word: str) -> None:
        self.words.setdefault(job_id, set()).add(word)

    def _whim(self, likely: float) -> bool:
        return likely > 0.0 and self.chance.random() < likely

    # The operator's side.

    def submit(self, manifest: Mapping[str, Any]) -> None:
        self.jobs[manifest["job_id"]] = ServerJob(manifest["job_id"], manifest)
        self.note(f"submitted {manifest['job_id']}")
        self.submitted.set()

    def cancel(self, job_id: str, *, for_ever: bool = False) -> None:
        """Want a job cancelled; `for_ever`: say so with every heartbeat, even when it is over."""
        job = self.jobs.get(job_id)
        if job is not None and (job.state != "over" or for_ever):
            job.cancel, job.cancel_for_ever = True, for_ever

    def give_away(self, job_id: str) -> None:
        """Decide that another node has the job."""
        job = self.jobs.get(job_id)
        if job is not None and job.state != "over":
            self.memory.superseded.add(job.key)
            job.attempt += 1
            job.state, job.deadline_s = "over", None

    def forget(self, job_id: str) -> None:
        """Lose the memory of a job."""
        job = self.jobs.pop(job_id, None)
        if job is not None:
            self.memory.superseded.add(job.key)

    def revoke_tokens(self) -> None:
        self.memory.token = None

    def back_up(self, name: Any) -> None:
        self.backups[name] = copy.deepcopy(self.memory)

    def restore(self, name: Any) -> None:
        """Start again with an older database: what was learned since is forgotten."""
        newer, self.memory = self.memory, copy.deepcopy(self.backups.pop(name, Memory()))
        self.histories += 1
        self.confused = True
        loop = asyncio.get_running_loop()
        for job_id in newer.jobs.keys() - self.jobs.keys():
            if self.chance.random() < 0.5:  # whoever submitted it asks, and submits it again
                loop.call_later(_RESUBMITTED_S, self.submit, newer.jobs[job_id].manifest)

    # Time.

    def tick(self) -> None:
        """Take back what ran out."""
        for job in self.jobs.values():
            if job.deadline_s is None and job.state == "leased" and self.confused:
                job.deadline_s = self.now_s + PATIENCE_S
            if job.deadline_s is None or self.now_s < job.deadline_s:
                continue
            job.deadline_s = None
            if job.state == "offered":
                job.state = "queued"
                self.note(f"the offer of {job.job_id}/{job.attempt} ran out")
                self.submitted.set()
            elif job.state == "leased":
                self._next_attempt(job, "the lease ran out")

    def _next_attempt(self, job: ServerJob, why: str) -> None:
        self.memory.superseded.add(job.key)
        here = self.chance.random() < self.habits.requeue_here
        self.note(
            f"{why}: the lease of {job.job_id}/{job.attempt} is over, the next is {'here' if here else 'elsewhere'}"
        )
        job.attempt += 1
        job.state, job.deadline_s = ("queued" if here else "over"), None
        if here:
            self.submitted.set()

    def _change_mind(self, job: ServerJob) -> None:
        """After a no that was not meant: sometimes the same attempt is handed out again."""
        self.fault("coordinator: changes its mind")
        self.confused = True
        if self.chance.random() < 0.5:
            self._next_attempt(job, "a no that was not meant")
        else:
            self.note(f"a no that was not meant: {job.job_id}/{job.attempt} is queued again")
            self.memory.superseded.add(job.key)
            job.state, job.deadline_s = "queued", None
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
        self.memory.token = self.tokens
        life = told = self.habits.token_life_s
        if life is not None and self.habits.token_lies:
            told = life * 10
        self.memory.token_until_s = None if life is None else self.now_s + life
        return WithToken(told, frozenset(), self.tokens)

    def authorised(self, token: int | None) -> bool:
        if not self.habits.registration:
            return True
        until_s = self.memory.token_until_s
        fresh = until_s is None or self.now_s < until_s
        return token is not None and token == self.memory.token and fresh

    def heartbeat(self, beat: Beat) -> BeatTaken | Absent:
        self.tick()
        if not self.habits.heartbeats:
            return Absent()
        for item in beat.running:
            named = item["job_id"]
            self.holds("named", named in self.handed_out, f"a heartbeat names {named!r}: never handed out")
            job = self.jobs.get(item["job_id"])
            if job is not None and job.key == (item["job_id"], item["attempt"]) and job.state == "leased":
                job.deadline_s = self.deadline()
        cancel = [
            job.job_id
            for job in self.jobs.values()
            if job.cancel and (job.state == "leased" or job.cancel_for_ever)
        ]
        if self._whim(self.habits.fickle) and (
            leased := [job for job in self.jobs.values() if job.state == "leased"]
        ):
            self.fault("coordinator: cancels on a whim")
            cancel.append(self.chance.choice(leased).job_id)
        if self._whim(self.habits.garbage):
            self.fault("coordinator: garbage")
            cancel.extend(NOBODYS)
        for job_id in cancel:
            self.say(job_id, "cancel")
        return BeatTaken(tuple(cancel))

    async def pull(self, request: PullRequest) -> JobOffer | NothingToDo:
        until_s = self.now_s + (request.wait_s or 0.0)
        while True:
            answer = self.pull_now(request)
            left_s = until_s - self.now_s
            if isinstance(answer, JobOffer) or left_s <= 0:
                return answer
            self.submitted.clear()
            try:
                async with asyncio.timeout(min(left_s, 5.0)):
                    await self.submitted.wait()
            except TimeoutError:
                continue

    def pull_now(self, request: PullRequest) -> JobOffer | NothingToDo:
        self.tick()
        if self._whim(self.habits.garbage):
            self.fault("coordinator: garbage")
            return self._hand_out(copy.deepcopy(self.chance.choice(MANIFESTS)))
        if self.jobs and self._whim(self.habits.offer_again):
            known = self.chance.choice(list(self.jobs.values()))
            if known.state in {"leased", "over"} and known.key in self.memory.acked:
                self.fault("coordinator: hands out again")
                self.note(f"hands out {known.job_id}/{known.attempt} again")
                return self._hand_out(self._manifest(known))
        for job in self.jobs.values():
            if job.state == "queued" and self._fits(job, request):
                job.state = "offered"
                job.deadline_s = self.now_s + self.habits.offer_s
                if job.attempt > 1:
                    self.say(job.job_id, "abandon")  # the earlier attempts
                return self._hand_out(self._manifest(job))
        return NothingToDo()

    def _hand_out(self, manifest: Any) -> JobOffer:
        if isinstance(manifest, dict):
            self.handed_out.add(str(manifest.get("job_id")))
        return JobOffer(manifest)

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
        if self._whim(self.habits.fickle):
            self.say(job_id, "gone")
            self._change_mind(job)
            return Gone(409)
        job.state = "leased"
        job.deadline_s = self.deadline()
        self.memory.acked.add(job.key)
        self.ever_acked.add(job.key)
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
        self.holds(
            "acknowledged-first",
            key in self.ever_acked,
            f"{key}: {step}, and nobody acknowledged the attempt",
        )
        before = self.contents.setdefault((*key, step), content)
        self.holds(
            "one-content",
            before == content,
            f"{key}: {step} again, with the same key and other content: {before} then {content}",
        )
        if step == "result" and self.habits.rejects_results:
            return Rejected(422, "not this one")
        recorded = self.memory.outcomes.get(key)
        if recorded is not None:
            return Delivered(200) if recorded[0] == step else self._gone(key)
        job = self.jobs.get(key[0])
        if job is None or job.key != key or job.state == "over":
            return self._gone(key)
        if key not in self.memory.acked and self.chance.random() < 0.5:
            return self._gone(key)  # an older database knows of no ack; another would take it all the same
        if self._whim(self.habits.fickle):
            self._change_mind(job)
            return self._gone(key)
        self._record(key, step, content)
        job.state, job.deadline_s = "over", None
        return Delivered(200)

    def _record(self, key: Key, step: str, content: str) -> None:
        again = any(history == self.histories and known == key for history, known, _ in self.ever_recorded)
        self.holds("one-outcome", not again, f"{key}: two outcomes in one history of the coordinator")
        self.ever_recorded.append((self.histories, key, step))
        self.memory.outcomes[key] = (step, content)
        self.note(f"{key[0]}/{key[1]} {step} recorded")

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
            wanted = job is not None and job.attempt == one.attempt and job.state in {"leased", "offered"}
            if self._whim(self.habits.fickle):
                if wanted and job is not None:
                    self._change_mind(job)
                wanted = not wanted
            if wanted:
                keep.add(one.job_id)
        abandon = frozenset(one.job_id for one in asked) - keep
        if self._whim(self.habits.garbage):
            self.fault("coordinator: garbage")
            abandon |= frozenset(NOBODYS)
        for job_id in abandon:
            self.say(job_id, "abandon")
        return Reconciled(abandon)
