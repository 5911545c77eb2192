"""What must hold at every step: checked when a fact becomes durable, and before every effect on the world."""

from collections.abc import Callable, Sequence

from fsm_miner.recovery import replay_stream
from journal.port import Entry, Record, StreamKey
from states.admission import Capacity
from states.events import decode
from states.evolve import evolve
from states.job import NEW, Job
from states.table import TRANSITIONS, State
from tests.simulation.coordinator import Server
from tests.simulation.worksite import Machine

__all__ = ["SECRET", "Promises"]

SECRET = "s3cret-never-on-a-disk"
_TABLE = {(rule.event, rule.source, rule.dest or rule.source) for rule in TRANSITIONS}
_WORDS = {
    "CancelRequested": {"cancel"},
    "AbandonRequested": {"gone", "abandon"},
    "Superseded": {"gone", "abandon"},
}


class Promises:
    """Knows the durable truth of every stream, and complains through `wrong`."""

    def __init__(self, capacity: Callable[[], Capacity], wrong: Callable[[str], None]) -> None:
        self._capacity = capacity
        self._wrong = wrong
        self.durable: dict[StreamKey, Job] = {}
        self.checked = 0
        self.server: Server
        self.machine: Machine

    def holds(self, condition: bool, what: str) -> None:
        self.checked += 1
        if not condition:
            self._wrong(what)

    # When facts become durable.

    def written(self, key: StreamKey, entries: Sequence[Entry], records: Sequence[Record]) -> None:
        before = job = self.durable.get(key, NEW)
        self.holds(not job.final, f"{key}: {[entry.event for entry in entries]} after the end")
        for record in records:
            source = job.state
            job = evolve(job, decode(record.event, record.data))
            self.holds(
                (record.source, record.dest) == (source, job.state)
                and (record.event, record.source, record.dest) in _TABLE,
                f"{key}: {record.event} is recorded as {record.source} to {record.dest}, but is not",
            )
            self.holds(SECRET not in record.data_json, f"{key}: a secret is in {record.event}")
            self._fact(key, record, before, job)
        self.durable[key] = job
        if job.holds_slot and not before.holds_slot:
            self._slots(key)

    def _fact(self, key: StreamKey, record: Record, before: Job, after: Job) -> None:
        event = record.event
        words = self.server.words.get(key.job_id, set())
        if event in _WORDS:
            self.holds(bool(_WORDS[event] & words), f"{key}: {event}, but the coordinator said only {words}")
        elif event == "Acked":
            self.holds(tuple(key) in self.server.acked, f"{key}: Acked, but nobody acknowledged")
        elif event in {"Ended", "OutcomeKnown"}:
            living = [run.key for run in self.machine.alive(key.job_id) if run.key[1] == key.attempt]
            self.holds(not living, f"{key}: {event}, but {living} lives")
            twice = event == "OutcomeKnown" and before.outcome_known
            self.holds(not twice, f"{key}: a second outcome")
        elif event == "Delivered":
            recorded = self.server.outcomes.get(tuple(key))
            step = "result" if after.failure is None else "fail"
            self.holds(
                recorded is not None and recorded[0] == step,
                f"{key}: Delivered as {step}, but the coordinator has {recorded}",
            )

    def _slots(self, key: StreamKey) -> None:
        capacity = self._capacity()
        held = [job for job in self.durable.values() if job.holds_slot]
        cpu, gpu = (
            sum(not job.wants_gpu for job in held),
            sum(job.wants_gpu for job in held),
        )
        if self.durable[key].wants_gpu:
            self.holds(gpu <= capacity.gpu, f"{key}: the GPU slot number {gpu} of {capacity.gpu}")
            cards = [card for job in held for card in job.gpus]
            self.holds(len(set(cards)) == len(cards), f"{key}: a card is given twice: {cards}")
        else:
            self.holds(cpu <= capacity.cpu, f"{key}: the CPU slot number {cpu} of {capacity.cpu}")

    def stepped(self, after: Job) -> None:
        """Compare the live job with the durable one."""
        key = StreamKey(after.job_id, after.attempt)
        self.holds(self.durable[key] == after, f"{key}: the live job is not what the journal tells")

    # Before effects.

    def effect(self, name: str, job: Job) -> None:
        key = StreamKey(job.job_id, job.attempt)
        known = self.durable.get(key, NEW)
        intent = known.intent
        if name == "launch":
            self.holds(
                intent is not None and intent.run == job.run, f"{key}: launch of run {job.run} without intent"
            )
        elif name == "stop":
            asked = known.cancelled_by or known.abandoned or known.limit
            self.holds(asked is not None, f"{key}: stopped, and nobody asked for it")
        elif name in {"watch", "collect"}:
            self.holds(known.launch is not None, f"{key}: {name} before Launched")

    def call(self, name: str, key: tuple[str, int] | None) -> None:
        if key is None:
            return
        known = self.durable.get(StreamKey(*key), NEW)
        if name == "ack":
            self.holds(known.state is not State.IDLE, f"{key}: ack before Offered")
        elif name in {"result", "fail"}:
            matches = known.outcome_known and (known.failure is None) == (name == "result")
            self.holds(matches, f"{key}: {name} in {known.state}, outcome known: {known.outcome_known}")

    # At the end.

    def finished(self, records: Callable[[StreamKey], Sequence[Record]]) -> None:
        for key, job in self.durable.items():
            self.holds(replay_stream(records(key))[-1][1] == job, f"{key}: a replay gives another job")
            self.holds(job.final, f"{key} is left in {job.state}")
        for key in self.server.acked:
            job = self.durable.get(StreamKey(*key), NEW)
            told = key in self.server.outcomes or key in self.server.superseded
            self.holds(told, f"{key} was acknowledged and has no outcome; the node says {job.state}")
        living = [run.key for run in self.machine.runs.values() if run.alive]
        self.holds(not living, f"processes are left: {living}")
