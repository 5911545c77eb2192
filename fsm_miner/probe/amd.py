"""AMD GPUs, by what the amdgpu driver publishes in sysfs (kernel documentation, "Misc AMDGPU driver").

ROCm is found by its compute interface, `/dev/kfd`. A job gets that and the card's render node; the runtime
skips cards whose render node it cannot open (ROCm documentation, "Restricting GPU access"). By unique id
the card is named for the runtime; where it has none, it is the only one in the sandbox, hence number 0.
"""

from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from fsm_miner.probe.drm import DrmCard, drm_cards
from fsm_miner.probe.gpu import Gpu, GpuReading, mib
from fsm_miner.probe.sysfile import read_number, read_text

__all__ = ["AmdSource"]

VENDOR = "0x1002"
NO_ID = "0" * 16


@dataclass(frozen=True, slots=True)
class AmdSource:
    """Reads `sysfs` (`/sys`) and looks for nodes below `dev` (`/dev`)."""

    sysfs: Path
    dev: Path

    def read(self) -> GpuReading:
        """Return every AMD card that the amdgpu driver serves."""
        gpus: list[Gpu] = []
        problems: list[str] = []
        for index, card in enumerate(drm_cards(self.sysfs, VENDOR)):
            total = read_number(card.device / "mem_info_vram_total")
            if not total:
                problems.append(
                    f"AMD card {card.pci} is left out: {card.device}/mem_info_vram_total cannot be read; "
                    "is the amdgpu driver bound to it?"
                )
                continue
            gpu = self._gpu(card, index, total)
            gpus.append(gpu)
            if not (self.dev / "kfd").exists():
                problems.append(
                    f"{gpu.id}: {self.dev / 'kfd'} is missing: ROCm will not start; modprobe amdgpu"
                )
        return GpuReading(tuple(gpus), tuple(problems))

    def _gpu(self, card: DrmCard, index: int, total: int) -> Gpu:
        used = read_number(card.device / "mem_info_vram_used")
        unique = read_text(card.device / "unique_id")
        known = unique is not None and len(unique) == 16 and unique.isalnum() and unique != NO_ID
        identity = f"GPU-{unique}" if known else f"AMD-{card.pci}"
        nodes = [self.dev / "kfd"] + ([self.dev / "dri" / card.render] if card.render else [])
        return Gpu(
            id=identity,
            vendor="amd",
            name=read_text(card.device / "product_name") or f"AMD GPU {card.pci_id}",
            vram_mb=mib(total),
            # A driver that does not tell what is used is taken to have nothing free.
            vram_free_mb=mib(total - used) if used is not None else 0,
            index=index,
            driver=read_text(self.sysfs / "module/amdgpu/version"),
            devices=tuple(str(node) for node in nodes if node.exists()),
            reads=(str(self.sysfs),),
            visible_env=MappingProxyType({"ROCR_VISIBLE_DEVICES": identity if known else "0"}),
        )
