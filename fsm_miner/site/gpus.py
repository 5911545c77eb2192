"""The node's GPUs as last seen, for admission, preparation and the status page."""

from fsm_miner.log_port import Log
from fsm_miner.probe.gpu import Gpu, GpuReading
from fsm_miner.probe.inventory import ThreadedInventory, gpu_sources
from states.admission import Card

__all__ = ["GpuBoard"]


class GpuBoard:
    """Keeps the last reading; asks the drivers anew when told to."""

    def __init__(self, log: Log) -> None:
        self._inventory = ThreadedInventory(gpu_sources())
        self._log = log
        self.reading = GpuReading()

    async def read(self) -> GpuReading:
        """Read the drivers, in bounded time; changes are logged."""
        before, self.reading = self.reading, await self._inventory.read()
        for problem in set(self.reading.problems) - set(before.problems):
            self._log.warning("gpu_problem", problem=problem)
        old, new = {gpu.id for gpu in before.gpus}, {gpu.id for gpu in self.reading.gpus}
        if old != new:
            self._log.info("gpus_changed", gone=sorted(old - new), come=sorted(new - old))
        return self.reading

    def find(self, card: str) -> Gpu | None:
        """Return a GPU by its id, if it was there at the last look."""
        return next((gpu for gpu in self.reading.gpus if gpu.id == card), None)

    def cards(self) -> tuple[Card, ...]:
        """Return the GPUs as admission counts them."""
        return tuple(Card(gpu.id, gpu.vram_mb, gpu.vram_free_mb) for gpu in self.reading.gpus)
