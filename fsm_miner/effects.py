"""Effects: one for each instruction. The only place, beside the loops of the agent, that touches the world."""

from collections.abc import Awaitable, Callable

from fsm_miner.clock import Clock, Dice
from fsm_miner.coordinator.port import Acked, Coordinator, Gone, Unauthorized, Unknown
from fsm_miner.delivery import Delivery
from fsm_miner.log_port import Log
from fsm_miner.session import Session
from fsm_miner.words import counted
from fsm_miner.worksite import NotNow, Worksite
from journal.port import StreamKey
from runners.lock import RunError
from runners.shortage import is_shortage
from states import instructions as i
from states import stimuli as s
from states.job import Job
from states.retry import Backoff

__all__ = ["JobEffects", "Progress"]

_NS_PER_S = 1_000_000_000

Progress = Callable[[Job, str, str | None, float | None], Awaitable[None]]


class JobEffects:
    """Does what `states.due` asks for, with the coordinator and the worksite that it was given."""

    def __init__(
        self,
        coordinator: Coordinator,
        session: Session,
        worksite: Worksite,
        delivery: Delivery,
        progress: Progress,
        *,
        backoff: Backoff,
        clock: Clock,
        dice: Dice,
        log: Log,
    ) -> None:
        self._coordinator = coordinator
        self._session = session
        self._worksite = worksite
        self._delivery = delivery
        self._progress = progress
        self._backoff = backoff
        self._clock = clock
        self._dice = dice
        self._log = log
        self._unanswered: dict[StreamKey, str] = {}

    @property
    def troubles(self) -> tuple[str, ...]:
        """A sentence, should jobs wait for the coordinator to answer their acks."""
        if not self._unanswered:
            return ()
        waiting, reason = len(self._unanswered), next(reversed(self._unanswered.values()))
        jobs = f"{counted(waiting, 'job')} {'waits' if waiting == 1 else 'wait'}"
        return (f"the coordinator does not answer /jobs/ack: {jobs}: {reason}",)

    async def perform(self, job: Job, instruction: i.Instruction) -> s.Stimulus:
        """Do the instruction; return what came of it.

        Raises:
            NotNow: the node lacks something for a moment.

        """
        try:
            return await self._perform(job, instruction)
        except (OSError, RunError) as error:
            if is_shortage(error):
                raise NotNow(f"{type(instruction).__name__}: {error}") from error
            raise

    async def _perform(self, job: Job, instruction: i.Instruction) -> s.Stimulus:
        match instruction:
            case i.AskAck():
                return await self._ask_ack(job)
            case i.Prepare():
                return await self._worksite.prepare(job)
            case i.Launch():
                return await self._worksite.launch(job, only_look=instruction.only_look)
            case i.Watch():

                async def tell(note: str, log_tail: str | None, pct: float | None) -> None:
                    await self._progress(job, note, log_tail, pct)

                return await self._worksite.watch(job, tell)
            case i.Stop():
                return await self._worksite.stop(job)
            case i.Collect():
                return await self._worksite.collect(job)
            case i.Deliver():
                return await self._delivery.deliver(job)
            case i.Wait():
                return await self._wait(instruction)
            case i.AwaitSlot():
                raise AssertionError("a slot is granted by admission, not by an effect")

    async def _ask_ack(self, job: Job) -> s.Stimulus:
        """Ask until there is an answer: an ack that nobody answered may have made the job ours."""
        try:
            return await self._ask_ack_on(job)
        finally:
            self._unanswered.pop(StreamKey(job.job_id, job.attempt), None)

    async def _ask_ack_on(self, job: Job) -> s.Stimulus:
        failures = 0
        while True:
            await self._session.ready()
            answer = await self._coordinator.ack(job.job_id, job.attempt)
            match answer:
                case Acked():
                    return s.AckGranted(answer.lease_s)
                case Gone():
                    return s.AckRefused(answer.status)
                case Unauthorized():
                    self._session.invalidate(answer.reason)
                    after_s = None
                case Unknown():
                    if not self._unanswered:
                        self._log.warning("ack_unanswered", job_id=job.job_id, reason=answer.reason)
                    self._unanswered[StreamKey(job.job_id, job.attempt)] = answer.reason
                    after_s = answer.retry_after_s
            failures += 1
            await self._clock.sleep(self._backoff.delay_s(failures, self._dice.roll(), after_s))

    async def _wait(self, wait: i.Wait) -> s.Stimulus:
        """Wait until the time written in the journal, but never longer than was decided then."""
        left_s = (wait.due_ns - self._clock.now_ns()) / _NS_PER_S
        await self._clock.sleep(min(max(left_s, 0.0), wait.delay_s))
        return s.RetryTimerFired()
