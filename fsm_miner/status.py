"""What the node says of itself: the JSON of `/healthz`, and the gauges of `/metrics`."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import psutil

from fsm_miner import __version__
from fsm_miner.delivery import timestamp
from fsm_miner.heartbeat import Heartbeat
from fsm_miner.metrics import Metrics
from fsm_miner.outbox import Outbox, since_ns
from fsm_miner.probe.host import HostFacts
from fsm_miner.pull import Pull
from fsm_miner.reload import AllowlistWatch
from fsm_miner.session import Session
from fsm_miner.site.cgroups import Isolation
from fsm_miner.site.gpus import GpuBoard
from fsm_miner.supervisor import Supervisor
from fsm_miner.words import counted
from states.admission import Capacity
from states.table import State

__all__ = ["Status"]

_QUEUED = frozenset({State.PULLING, State.ACKED, State.RETRY_WAIT})
_RUNNING = frozenset({State.PREP, State.RUNNING})


class Status:
    """Reads the daemon's parts; changes nothing."""

    def __init__(
        self,
        node_id: str,
        supervisor: Supervisor,
        session: Session,
        heartbeat: Heartbeat,
        pull: Pull,
        outbox: Outbox,
        gpus: GpuBoard,
        allowlist: AllowlistWatch,
        facts: Callable[[], HostFacts],
        *,
        draining: Callable[[], bool],
        isolation: Callable[[], Isolation],
        capacity: Callable[[], Capacity],
        uptime_s: Callable[[], float],
        more_trouble: Callable[[], Sequence[str]],
    ) -> None:
        self._node_id = node_id
        self._supervisor = supervisor
        self._session = session
        self._heartbeat = heartbeat
        self._pull = pull
        self._outbox = outbox
        self._gpus = gpus
        self._allowlist = allowlist
        self._facts = facts
        self._draining = draining
        self._isolation = isolation
        self._capacity = capacity
        self._uptime_s = uptime_s
        self._more_trouble = more_trouble

    def health(self) -> dict[str, Any]:
        """Return the answer of `/healthz`."""
        facts = self._facts()
        trouble = self.trouble()
        last_ns = self._heartbeat.last_answered_ns
        capacity = self._capacity()
        return {
            "status": "degraded" if trouble else "ok",
            "trouble": trouble,
            "node_id": self._node_id,
            "version": __version__,
            "uptime_s": round(self._uptime_s(), 1),
            "registered": self._session.is_ready,
            "draining": self._draining(),
            "running": self._count(_RUNNING),
            "queued": self._queued(),
            "uploading": self._count({State.UPLOADING}),
            "outbox": self._outbox_view(),
            "slots": {"cpu": capacity.cpu, "gpu": capacity.gpu},
            "cpu_load": facts.load[0],
            "memory_free_mb": facts.memory_free_mb,
            "disk_free_mb": facts.disk_free_mb,
            "gpus": len(self._gpus.reading.gpus),
            "vram_free": self._vram_free_mb(),
            **self._isolation().told,
            "last_heartbeat_at": None if last_ns is None else timestamp(last_ns),
            "pull_held_back": self._pull.held_back,
            "jobs": [
                {"job_id": job.job_id, "attempt": job.attempt, "state": str(job.state), "run": job.run}
                for job in self._supervisor.jobs()
            ],
        }

    def line(self) -> str:
        """Return the same in a few words, for `systemctl status`."""
        words = [
            "registered" if self._session.is_ready else "not registered",
            f"{self._count(_RUNNING)} running, {self._queued()} waiting",
        ]
        if delivering := self._delivering():
            words[-1] += f", {delivering} to deliver"
        if self._draining():
            words.append("draining")
        # What stands in /healthz for as long as the node is not registered says no more than the first word.
        if self._session.is_ready and (trouble := self.trouble()):
            words.append(f"degraded: {trouble[0]}")
        return "; ".join(words)

    def trouble(self) -> list[str]:
        """Return a sentence for everything that is not as it should be."""
        found: list[str] = []
        if self._session.trouble is not None:
            found.append(self._session.trouble)
        if self._supervisor.journal_trouble is not None:
            found.append(f"the journal can't write: {self._supervisor.journal_trouble}")
        outbox = self._outbox_view()
        many = outbox["waiting"] > 1
        if outbox["waiting"] and outbox["problem"] is not None:
            found.append(
                f"{counted(outbox['waiting'], 'outcome')} {'wait' if many else 'waits'} for the coordinator, "
                f"{'the oldest ' if many else ''}since {outbox['oldest_since']}: {outbox['problem']}"
            )
        if self._pull.held_back is not None and not self._draining():
            found.append(f"not pulling: {self._pull.held_back}")
        found += [trouble for trouble in self._more_trouble() if f"not pulling: {trouble}" not in found]
        found += self._allowlist.loaded.problems
        found += self._gpus.reading.problems
        return found

    def gauges(self, metrics: Metrics) -> None:
        """Add the gauges."""
        for state in (
            State.PULLING,
            State.ACKED,
            State.PREP,
            State.RUNNING,
            State.UPLOADING,
            State.RETRY_WAIT,
        ):
            name = state.lower()
            metrics.gauge(f"jobs_{name}", f"Jobs in {state}", lambda state=state: self._count({state}))
        metrics.gauge("queue", "Jobs that wait for a slot or a retry", self._queued)
        metrics.gauge("running", "Jobs that hold a slot", lambda: self._count(_RUNNING))
        metrics.gauge("outbox", "Outcomes that wait to be delivered", lambda: float(len(self._waiting())))
        metrics.gauge("vram_free_mb", "Free video memory of all cards, in MiB", self._vram_free_mb)
        metrics.gauge("cpu_load", "Load average over one minute", lambda: self._facts().load[0])
        metrics.gauge("registered", "1 while the node is registered", lambda: float(self._session.is_ready))
        metrics.gauge("troubles", "What is not as it should be", lambda: float(len(self.trouble())))
        own = psutil.Process()
        metrics.gauge(
            "daemon_cpu_seconds", "Processor time of the daemon itself", lambda: sum(own.cpu_times()[:2])
        )
        metrics.gauge(
            "daemon_memory_bytes", "Resident memory of the daemon", lambda: float(own.memory_info().rss)
        )
        metrics.gauge("daemon_open_files", "Open descriptors of the daemon", lambda: float(own.num_fds()))

    def _count(self, states: "frozenset[State] | set[State]") -> int:
        counts = Counter(job.state for job in self._supervisor.jobs())
        return sum(counts[state] for state in states)

    def _queued(self) -> int:
        """Count the jobs that have yet to run. One whose outcome is known only waits to be delivered."""
        return sum(job.state in _QUEUED and not job.outcome_known for job in self._supervisor.jobs())

    def _delivering(self) -> int:
        return sum(job.outcome_known or job.state is State.UPLOADING for job in self._supervisor.jobs())

    def _waiting(self) -> list[int]:
        """Return since when (UTC, ns) each outcome waits to be delivered."""
        return [since_ns(job) for job in self._supervisor.jobs() if job.outcome_known]

    def _outbox_view(self) -> dict[str, Any]:
        waiting = self._waiting()
        return {
            "waiting": len(waiting),
            "oldest_since": timestamp(min(waiting)) if waiting else None,
            "problem": self._outbox.trouble,
        }

    def _vram_free_mb(self) -> int:
        return sum(gpu.vram_free_mb for gpu in self._gpus.reading.gpus)
