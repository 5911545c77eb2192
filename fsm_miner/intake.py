"""Intake: from a manifest as it came to a job in hand. Secrets part from it here."""

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from pydantic import SecretStr

from fsm_miner.clock import Clock
from fsm_miner.log_port import Log
from fsm_miner.manifest import parse_offer
from fsm_miner.supervisor import Supervisor
from journal.port import StreamKey, StreamSealed
from states.stimuli import OfferReceived

__all__ = ["Intake"]


class Echo(Protocol):
    """Hears of an attempt that was handed out again and is not in hand."""

    def __call__(self, key: StreamKey, *, sealed: bool) -> None:
        """Take note; `sealed` if its stream is no longer in the journal. Never waits."""
        ...


class Intake:
    """Takes offers from the pull loop."""

    def __init__(
        self,
        supervisor: Supervisor,
        keep_secrets: Callable[[StreamKey, Mapping[str, SecretStr]], None],
        echo: Echo,
        *,
        clock: Clock,
        log: Log,
    ) -> None:
        self._supervisor = supervisor
        self._keep_secrets = keep_secrets
        self._echo = echo
        self._clock = clock
        self._log = log

    async def __call__(self, manifest: Any) -> bool:
        """Take an offer; return whether a new job came of it."""
        offer = parse_offer(manifest)
        if offer.job_id is None:
            problem = None if offer.problem is None else offer.problem.message
            self._log.warning("offer_unusable", problem=problem)
            return False
        key = StreamKey(offer.job_id, offer.attempt)
        form = json.dumps(offer.journal_form, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        if offer.problem is None and self._supervisor.job(key) is None:
            self._keep_secrets(key, offer.secrets)
        received = OfferReceived(
            job_id=offer.job_id,
            attempt=offer.attempt,
            manifest=offer.journal_form,
            manifest_sha256=hashlib.sha256(form.encode()).hexdigest(),
            problem=offer.problem,
            now_ns=self._clock.now_ns(),
        )
        sealed = False
        try:
            taken = await self._supervisor.offer(received)
        except StreamSealed:
            taken, sealed = False, True
        if taken:
            return True
        if offer.attempt_guessed:  # no word about the attempt that is known by this number
            problem = None if offer.problem is None else offer.problem.message
            self._log.warning("offer_unusable", job_id=offer.job_id, problem=problem)
            return False
        self._log.info("offer_known", job_id=offer.job_id, attempt=offer.attempt)
        if self._supervisor.job(key) is None:
            self._keep_secrets(key, {})
            self._echo(key, sealed=sealed)
        return False
