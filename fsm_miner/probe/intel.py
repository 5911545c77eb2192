"""Intel GPUs with memory of their own, by sysfs.

Only those: integrated graphics share the host's memory, so that `vram_mb` would mean nothing and a
job there would take memory that nobody counted. The size is published by the xe driver, for each tile, as
`device/tile<n>/physical_vram_size_bytes`, and by Intel's own builds of i915 as `lmem_total_bytes` in
the card's folder. The i915 of a stock kernel publishes none: such a card is not found (docs/gpu.md).
"""

from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from fsm_miner.probe.drm import DrmCard, drm_cards
from fsm_miner.probe.gpu import Gpu, GpuReading, mib
from fsm_miner.probe.sysfile import read_number, read_text

__all__ = ["IntelSource"]

VENDOR = "0x8086"
TILES_MAX = 8


@dataclass(frozen=True, slots=True)
class IntelSource:
    """Reads `sysfs` (`/sys`) and looks for nodes below `dev` (`/dev`)."""

    sysfs: Path
    dev: Path

    def read(self) -> GpuReading:
        """Return every Intel card whose own memory the kernel publishes."""
        cards = drm_cards(self.sysfs, VENDOR)
        sized = [(card, total) for card in cards if (total := _memory_bytes(card))]
        gpus = tuple(self._gpu(card, index, total) for index, (card, total) in enumerate(sized))
        problems = tuple(
            f"{gpu.id}: {self.dev / 'dri'} has no render node for it: a job will not reach it"
            for gpu in gpus
            if not gpu.devices
        )
        return GpuReading(gpus, problems)

    def _gpu(self, card: DrmCard, index: int, total: int) -> Gpu:
        available = read_number(card.folder / "lmem_avail_bytes")
        node = self.dev / "dri" / card.render if card.render else None
        driver = (card.device / "driver").resolve().name
        return Gpu(
            id=f"INTEL-{card.pci}",
            vendor="intel",
            name=f"Intel GPU {card.pci_id}",
            vram_mb=mib(total),
            # The xe driver tells the size and not what is used; this node's own jobs are counted by its slots.
            vram_free_mb=mib(min(available, total) if available is not None else total),
            index=index,
            driver=read_text(self.sysfs / "module" / driver / "version") or driver,
            devices=(str(node),) if node is not None and node.exists() else (),
            reads=(str(self.sysfs),),
            # The only render node in the sandbox is this card's, so that it is number 0 there.
            visible_env=MappingProxyType({"ZE_AFFINITY_MASK": "0"}),
        )


def _memory_bytes(card: DrmCard) -> int:
    tiles = [read_number(card.device / f"tile{n}/physical_vram_size_bytes") for n in range(TILES_MAX)]
    return (
        sum(size for size in tiles if size is not None) or read_number(card.folder / "lmem_total_bytes") or 0
    )
