"""A job's way out over its life: opened before its command starts, again by a new daemon, told of in its usage."""

from dataclasses import replace

from fsm_miner.egress.gateway import Gateway
from fsm_miner.log_port import Log
from fsm_miner.manifest import Manifest
from runners.egress import EgressFailed
from runners.run import RunFiles
from runners.wait import Alive, observe
from states.job import Job
from states.stimuli import ProcessGone

__all__ = ["Egress"]


class Egress:
    """Does nothing for jobs whose manifest has no `network.allow`."""

    def __init__(self, gateway: Gateway, log: Log) -> None:
        self._gateway = gateway
        self._log = log

    async def let_out(self, job: Job, files: RunFiles) -> None:
        """Open the way out of a run.

        Raises:
            EgressFailed, OSError: there is none.

        """
        await self._gateway.open(job.job_id, files, Manifest.from_journal(job.manifest).network.allow)

    async def let_out_again(self, job: Job, files: RunFiles) -> None:
        """Open the way out of a run that an earlier daemon has started; without one it goes on as well as it can."""
        if not _wanted(job) or self._gateway.is_open(files) or not isinstance(observe(files), Alive):
            return
        try:
            await self.let_out(job, files)
        except (EgressFailed, OSError) as error:
            self._log.error("egress_unavailable", job_id=job.job_id, problem=str(error))

    async def over(self, job: Job, files: RunFiles, gone: ProcessGone) -> ProcessGone:
        """Close the way out; add what went through it to the usage."""
        if not _wanted(job):
            return gone
        traffic = await self._gateway.close(files)
        return replace(gone, usage={**gone.usage, "network": traffic.as_usage()})

    async def stop(self) -> None:
        """Close all of them; the runs go on."""
        await self._gateway.stop()


def _wanted(job: Job) -> bool:
    return bool(job.manifest.get("network", {}).get("allow"))
