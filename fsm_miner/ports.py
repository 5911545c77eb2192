"""A seam where the daemon is put together: what it talks through can be wrapped there, and nowhere else."""

import httpx

from fsm_miner.coordinator.port import Coordinator
from fsm_miner.worksite import Worksite
from journal.port import Journal

__all__ = ["Ports"]


class Ports:
    """Takes each port as it is. `fsm_miner.fault_points` has one that does not."""

    def journal(self, journal: Journal) -> Journal:
        """Take the journal that jobs are written to."""
        return journal

    def coordinator(self, coordinator: Coordinator) -> Coordinator:
        """Take the coordinator's client."""
        return coordinator

    def worksite(self, worksite: Worksite) -> Worksite:
        """Take the worksite."""
        return worksite

    def inputs(self, client: httpx.AsyncClient) -> httpx.AsyncClient:
        """Take the client that fetches inputs."""
        return client
