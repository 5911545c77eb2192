"""Heartbeat: says that the node lives, and takes the commands that ride on the answer."""

from collections.abc import Callable

from fsm_miner.clock import Clock, Dice
from fsm_miner.coordinator.port import Absent, Beat, BeatTaken, Coordinator, Unauthorized, Unknown
from fsm_miner.log_port import Log
from fsm_miner.session import Session
from fsm_miner.supervisor import Supervisor, key_of
from states import stimuli as s
from states.retry import Backoff

__all__ = ["Heartbeat"]


class Heartbeat:
    """One beat every `interval_s`, give or take `jitter` of it; slower while nobody answers."""

    def __init__(
        self,
        coordinator: Coordinator,
        session: Session,
        supervisor: Supervisor,
        beat: Callable[[], Beat],
        drain: Callable[[bool], None],
        *,
        interval_s: float,
        jitter: float,
        backoff: Backoff,
        clock: Clock,
        dice: Dice,
        log: Log,
    ) -> None:
        self._coordinator = coordinator
        self._session = session
        self._supervisor = supervisor
        self._beat = beat
        self._drain = drain
        self._interval_s = interval_s
        self._jitter = jitter
        self._backoff = backoff
        self._clock = clock
        self._dice = dice
        self._log = log
        self.last_answered_ns: int | None = None
        """When the coordinator last answered a heartbeat (UTC); None if it never did."""

    async def run(self) -> None:
        """Beat until cancelled."""
        failures = 0
        while True:
            await self._session.ready()
            after_s = None
            answer = await self._coordinator.heartbeat(self._beat())
            match answer:
                case BeatTaken():
                    self.last_answered_ns = self._clock.now_ns()
                    if failures:
                        self._log.info("heartbeat_answered", after_failures=failures)
                    failures = 0
                    self._obey(answer)
                case Unauthorized():
                    self._session.invalidate(answer.reason)
                    continue
                case Absent():
                    failures = 0
                case Unknown():
                    if failures == 0:
                        self._log.warning("heartbeat_unanswered", reason=answer.reason)
                    failures += 1
                    after_s = answer.retry_after_s
            await self._clock.sleep(self._pause_s(failures, after_s))

    def _pause_s(self, failures: int, after_s: float | None) -> float:
        if failures:
            return self._backoff.delay_s(failures, self._dice.roll(), after_s)
        return self._interval_s * (1.0 + self._jitter * (2.0 * self._dice.roll() - 1.0))

    def _obey(self, answer: BeatTaken) -> None:
        """Pass the commands on. Never waits: a full disk must not end the heartbeat, and so the lease."""
        if answer.drain is not None:
            self._drain(answer.drain)
        if not answer.cancel:
            return
        wanted = set(answer.cancel)
        for job in self._supervisor.jobs():
            if job.job_id in wanted:
                self._supervisor.feed_soon(key_of(job), s.CancelAsked("coordinator"))
