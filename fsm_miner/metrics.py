"""Prometheus metrics of the node, in a registry of their own."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from states.job import Job

__all__ = ["Metrics"]

_SECONDS = (0.01, 0.05, 0.1, 0.5, 1, 5, 15, 60, 300, 1800, 7200, 43200)


class Metrics:
    """What an operator watches. Gauges are read when they are asked for."""

    def __init__(self, version: str) -> None:
        self.registry = CollectorRegistry()
        self.events = Counter(
            "fsm_miner_events", "Events appended to the journal", ["event"], registry=self.registry
        )
        self.outcomes = Counter(
            "fsm_miner_outcomes",
            "Jobs that reached their end, by state and error code",
            ["state", "code"],
            registry=self.registry,
        )
        self.job_seconds = Histogram(
            "fsm_miner_job_seconds",
            "From the offer to the delivered outcome",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.trouble = Counter(
            "fsm_miner_trouble",
            "Defects and outages that the daemon noticed",
            ["event"],
            registry=self.registry,
        )
        build = Gauge("fsm_miner_build_info", "The running version", ["version"], registry=self.registry)
        build.labels(version).set(1)

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """Add a gauge that calls `read`."""
        Gauge(f"fsm_miner_{name}", text, registry=self.registry).set_function(read)

    def finished(self, job: Job, now_ns: int) -> None:
        """Count an end."""
        code = job.failure.code if job.failure is not None else "superseded" if job.superseded else "none"
        self.outcomes.labels(job.state, code).inc()
        self.job_seconds.observe(max(0.0, (now_ns - job.offered_ns) / 1e9))

    def page(self) -> bytes:
        """Return the text form (Prometheus exposition format 0.0.4)."""
        return generate_latest(self.registry)
