"""What must hold at every step: checked when a fact becomes durable, before every effect and after every step."""

from collections import Counter
from collections.abc import Callable, Sequence

from fsm_miner.recovery import replay_stream
from journal.port import Entry, Record, StreamKey
from states.admission import Capacity
from states.codes import ErrorCode
from states.events import decode
from states.evolve import evolve
from states.job import NEW, Job
from states.table import TRANSITIONS, State
from tests.simulation.coordinator import Server
from tests.simulation.scenario import SECRET
from tests.simulation.worksite import Machine

__all__ = ["PROMISES", "Promises"]

PROMISES = {
    "one-launch": "a run is launched at most once",
    "one-process": "two processes of one job never live at the same time",
    "write-ahead": "no launch without LaunchIntended, no ack without Offered, no delivery without OutcomeKnown",
    "allowed": "nothing starts that no allowlist allowed when that run was prepared",
    "bounded-runs": "no run has a higher number than any configuration allowed",
    "stop-asked": "nothing is stopped unless somebody asked for it or it broke a limit",
    "end-first": "an end and an outcome are written only when nothing of the attempt lives",
    "one-outcome": "an attempt has one OutcomeKnown, and one outcome in each history of the coordinator",
    "one-content": "the same Idempotency-Key never has two contents",
    "acknowledged-first": "Acked is written, and an outcome delivered, only after the coordinator took the ack",
    "delivered": "Delivered is written only if the coordinator recorded that very outcome",
    "word-given": "a cancel, an abandon or Superseded is written only if the coordinator said so",
    "told": "every acknowledged attempt has its outcome at the coordinator, or the coordinator's word that it moved on",
    "slots": "no grant exceeds the slots",
    "cards": "no card is given to two jobs",
    "table": "source, destination and event of every record stand in the table",
    "end": "nothing follows a final state",
    "replay": "the live job is what the journal tells, at every step",
    "secrets": "secrets are in no record, and leave memory with their job",
    "held-back": "nothing is pulled while the node drains or its journal can't write",
    "few-deliveries": "no more deliveries are under way at once than configured, and one that is told again",
    "oldest-first": "of the outcomes whose time has come, those tried least often go first, and of them the oldest",
    "loops": "no loop ends, and heartbeats go on while the token is good",
    "named": "a heartbeat names nothing but jobs that were handed out",
    "no-storm": "no call is made more than 120 times a minute",
    "stops": "an orderly stop takes less than five minutes",
    "starts": "every stream can be read at every start",
    "no-defect": "no exception and no trouble that the world did not make",
    "late-mail": "what arrives after the end changes nothing",
    "ends": "once nothing fails any more, every job ends within bounded time",
}
_TABLE = {(rule.event, rule.source, rule.dest or rule.source) for rule in TRANSITIONS}
_WORDS = {
    "CancelRequested": {"cancel"},
    "AbandonRequested": {"gone", "abandon"},
    "Superseded": {"gone", "abandon"},
}


class Promises:
    """Knows the durable truth of every stream, and complains through `wrong(name, what)`."""

    def __init__(self, capacity: Callable[[], Capacity], wrong: Callable[[str, str], None]) -> None:
        self._capacity = capacity
        self._wrong = wrong
        self.durable: dict[StreamKey, Job] = {}
        self.checked: Counter[str] = Counter()
        self.runs_max = 0
        """The most runs that any configuration allowed until now."""
        self.server: Server
        self.machine: Machine

    def holds(self, name: str, condition: bool, what: str) -> None:
        self.checked[name] += 1
        if not condition:
            assert name in PROMISES, name
            self._wrong(name, what)

    # When facts become durable.

    def written(self, key: StreamKey, entries: Sequence[Entry], records: Sequence[Record]) -> None:
        before = job = self.durable.get(key, NEW)
        self.holds("end", not job.final, f"{key}: {[entry.event for entry in entries]} after the end")
        for record in records:
            source = job.state
            job = evolve(job, decode(record.event, record.data))
            self.holds(
                "table",
                (record.source, record.dest) == (source, job.state)
                and (record.event, record.source, record.dest) in _TABLE,
                f"{key}: {record.event} is recorded as {record.source} to {record.dest}, but is not",
            )
            self.holds("secrets", SECRET not in record.data_json, f"{key}: a secret is in {record.event}")
            self._fact(key, record, before, job)
        self.durable[key] = job
        if job.holds_slot and not before.holds_slot:
            self._slots(key)

    def _fact(self, key: StreamKey, record: Record, before: Job, after: Job) -> None:
        event = record.event
        words = self.server.words.get(key.job_id, set())
        if event in _WORDS:
            said = bool(_WORDS[event] & words)
            self.holds("word-given", said, f"{key}: {event}, but the coordinator said only {words}")
        elif event == "Acked":
            acked = tuple(key) in self.server.ever_acked
            self.holds("acknowledged-first", acked, f"{key}: Acked, but nobody acknowledged")
        elif event in {"Ended", "OutcomeKnown"}:
            living = [run.key for run in self.machine.alive(key.job_id) if run.key[1] == key.attempt]
            self.holds("end-first", not living, f"{key}: {event}, but {living} lives")
            if event == "OutcomeKnown":
                self.holds("one-outcome", not before.outcome_known, f"{key}: a second outcome")
        elif event == "LaunchIntended":
            few = after.run <= self.runs_max
            self.holds("bounded-runs", few, f"{key}: run {after.run} of at most {self.runs_max}")
        elif event == "Delivered":
            step = "result" if after.failure is None else "fail"
            recorded = [(known, how) for _, known, how in self.server.ever_recorded if known == key]
            took = (tuple(key), step) in recorded
            self.holds("delivered", took, f"{key}: Delivered as {step}, but the coordinator has {recorded}")

    def _slots(self, key: StreamKey) -> None:
        capacity = self._capacity()
        held = [job for job in self.durable.values() if job.holds_slot]
        gpu = sum(job.wants_gpu for job in held)
        cpu = len(held) - gpu
        if self.durable[key].wants_gpu:
            self.holds("slots", gpu <= capacity.gpu, f"{key}: the GPU slot number {gpu} of {capacity.gpu}")
            cards = [card for job in held for card in job.gpus]
            self.holds("cards", len(set(cards)) == len(cards), f"{key}: a card is given twice: {cards}")
        else:
            self.holds("slots", cpu <= capacity.cpu, f"{key}: the CPU slot number {cpu} of {capacity.cpu}")

    def stepped(self, after: Job) -> None:
        """Look at everything after a step; compare the live job with the durable one."""
        key = StreamKey(after.job_id, after.attempt)
        self.holds("replay", self.durable[key] == after, f"{key}: the live job is not what the journal tells")
        living = Counter(run.key[0] for run in self.machine.runs.values() if run.alive)
        self.holds("one-process", all(n == 1 for n in living.values()), f"processes live together: {living}")

    # Before effects.

    def effect(self, name: str, job: Job) -> None:
        key = StreamKey(job.job_id, job.attempt)
        known = self.durable.get(key, NEW)
        intent = known.intent
        if name == "launch":
            meant = intent is not None and intent.run == job.run
            self.holds("write-ahead", meant, f"{key}: launch of run {job.run} without intent")
        elif name == "stop":
            asked = known.cancelled_by or known.abandoned or known.limit
            self.holds("stop-asked", asked is not None, f"{key}: stopped, and nobody asked for it")
        elif name in {"watch", "collect"}:
            self.holds("write-ahead", known.launch is not None, f"{key}: {name} before Launched")

    def call(self, name: str, key: tuple[str, int] | None) -> None:
        if key is None:
            return
        known = self.durable.get(StreamKey(*key), NEW)
        if name == "ack":
            self.holds("write-ahead", known.state is not State.IDLE, f"{key}: ack before Offered")
        elif name in {"result", "fail"}:
            matches = self._may_deliver(known, name)
            self.holds(
                "write-ahead",
                matches,
                f"{key}: {name} in {known.state}, outcome known: {known.outcome_known}",
            )

    def failing(self, key: tuple[str, int], code: str) -> None:
        """See a failure on its way: what was a success here is never told as anything but lost."""
        known = self.durable.get(StreamKey(*key), NEW)
        done = known.outcome_known and known.failure is None
        self.holds(
            "write-ahead",
            not done or (known.final and code == ErrorCode.LOST),
            f"{key}: a success is told as {code} in {known.state}",
        )

    @staticmethod
    def _may_deliver(known: Job, name: str) -> bool:
        if known.final and not known.outcome_known:
            return name == "fail"  # handed out again: never ran, and won't
        if known.final and known.failure is None:
            return True  # handed out again: as it was, or as lost if its files are gone or refused: see `failing`
        return known.outcome_known and (known.failure is None) == (name == "result")

    # At the end.

    def finished(self, records: Callable[[StreamKey], Sequence[Record]], *, doubtful: bool) -> None:
        """Look at the end; `doubtful`: an offer may have been kept though it was reported as failed.

        Nobody acknowledged that one, and the next start would ask about it.
        """
        for key, job in self.durable.items():
            told = replay_stream(records(key))[-1][1]
            self.holds("replay", told == job, f"{key}: a replay gives another job")
            ended = job.final or (doubtful and job.state is State.PULLING)
            self.holds("ends", ended, f"{key} is left in {job.state}")
        memory = self.server.memory
        for key in memory.acked:
            job = self.durable.get(StreamKey(*key), NEW)
            heard = key in memory.outcomes or key in memory.superseded
            self.holds("told", heard, f"{key} was acknowledged and has no outcome; the node says {job.state}")
        living = [run.key for run in self.machine.runs.values() if run.alive]
        self.holds("ends", not living, f"processes are left: {living}")
