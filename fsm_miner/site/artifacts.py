"""What a job's run left to deliver: collected when it has ended, opened when it is delivered.

A power cut takes what nobody had made durable, and its exit code says nothing about that. So what a run of an
earlier boot left is not collected; and what was collected in one is hashed again before it is delivered.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fsm_miner.artifacts import Declared, StoredArtifact, collect
from fsm_miner.clock import Clock, Dice
from fsm_miner.manifest import Manifest
from fsm_miner.supervisor import key_of
from fsm_miner.upload_files import Uploads, opened_for_upload
from fsm_miner.workspace import Workspace
from journal.port import StreamKey
from states.codes import Failure
from states.job import Job
from states.stimuli import ArtifactsCollected, ArtifactsRefused, OutputDoubted

__all__ = ["Artifacts"]

_MIB = 1024 * 1024
_DOUBTED = (
    "the command ended with exit code 0, and the machine was restarted before what it wrote was made durable"
)


class Artifacts:
    """Collects and opens, in the boot `boot_id`."""

    def __init__(self, boot_id: str, *, clock: Clock, dice: Dice) -> None:
        self._boot_id = boot_id
        self._clock = clock
        self._dice = dice
        self._hashed: set[StreamKey] = set()

    async def collect(
        self, job: Job, workspace: Workspace
    ) -> ArtifactsCollected | ArtifactsRefused | OutputDoubted:
        """Check the declared artifacts, make them durable, and hash them."""
        assert job.intent is not None
        if self._of_earlier_boot(job):
            return OutputDoubted(_DOUBTED, self._clock.now_ns(), self._dice.roll())
        manifest = Manifest.from_journal(job.manifest)
        limit_mb = job.intent.output_limit_mb
        found = await collect(
            [
                Declared(
                    item.path, item.type, limit_mb if item.max_mb is None else item.max_mb, item.optional
                )
                for item in manifest.artifacts
            ],
            workspace,
            total_bytes_max=limit_mb * _MIB,
            stdout_artifact=manifest.stdout or manifest.implicit_stdout,
        )
        if isinstance(found, Failure):
            return ArtifactsRefused(found)
        return ArtifactsCollected(tuple(artifact.to_json() for artifact in found.artifacts))

    @asynccontextmanager
    async def parcel(self, job: Job, workspace: Workspace) -> AsyncGenerator[Uploads | Failure]:
        """Open what a success delivers; the first time after a restart of the machine, hash it again."""
        stored = [StoredArtifact.from_json(artifact) for artifact in job.artifacts]
        key = key_of(job)
        doubted = self._of_earlier_boot(job) and key not in self._hashed
        async with opened_for_upload(workspace, stored, doubted=doubted) as parcel:
            if doubted and not isinstance(parcel, Failure):
                self._hashed.add(key)
            yield parcel

    def forget(self, key: StreamKey) -> None:
        """Let go of a job that is over."""
        self._hashed.discard(key)

    def _of_earlier_boot(self, job: Job) -> bool:
        assert job.intent is not None
        return job.intent.boot_id != self._boot_id
