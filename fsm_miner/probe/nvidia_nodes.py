"""Which device nodes a job on an NVIDIA card, or on one MIG instance of it, needs.

Every process needs `nvidiactl`, the card's own `nvidia<minor>` and, for CUDA, `nvidia-uvm`. A MIG
instance also needs the two capability nodes that guard it (NVIDIA MIG user guide, "Device Nodes and
Capabilities"): the kernel driver lists their minors in `/proc/driver/nvidia-caps/mig-minors`, lines like
`gpu0/gi1/ci0/access 14`, where `gpu0` counts by the card's minor.
"""

from dataclasses import dataclass
from pathlib import Path

from fsm_miner.probe.gpu import MigInstance
from fsm_miner.probe.sysfile import read_text

__all__ = ["NvidiaNodes"]

NEEDED = ("nvidiactl", "nvidia-uvm")
USEFUL = ("nvidia-uvm-tools",)


@dataclass(frozen=True, slots=True)
class NvidiaNodes:
    """Finds nodes below `dev` (`/dev`) with the help of `proc` (`/proc`)."""

    dev: Path
    proc: Path

    def find(self, minor: int, mig: MigInstance | None = None) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the paths of the nodes that exist, and a problem for every needed one that does not."""
        needed = [f"nvidia{minor}", *NEEDED]
        problems: list[str] = []
        if mig is not None:
            caps = self._capabilities(minor, mig)
            if not caps:
                problems.append(
                    f"{self._mig_minors}: no line for gpu{minor}/gi{mig.gpu_instance}/ci{mig.compute_instance}: "
                    "a job cannot be given this MIG instance; is the driver 450 or newer?"
                )
            needed += caps
        present = [name for name in (*needed, *USEFUL) if (self.dev / name).exists()]
        problems += [
            f"{self.dev / name} is missing: a job on this GPU will not reach it; run nvidia-modprobe"
            for name in needed
            if name not in present
        ]
        return tuple(str(self.dev / name) for name in present), tuple(problems)

    @property
    def _mig_minors(self) -> Path:
        return self.proc / "driver/nvidia-caps/mig-minors"

    def _capabilities(self, minor: int, mig: MigInstance) -> list[str]:
        lines = (line.split() for line in (read_text(self._mig_minors) or "").splitlines())
        minors = {words[0]: words[1] for words in lines if len(words) == 2}
        instance = f"gpu{minor}/gi{mig.gpu_instance}"
        found = [
            minors.get(f"{instance}/access", ""),
            minors.get(f"{instance}/ci{mig.compute_instance}/access", ""),
        ]
        if not all(text.isdecimal() for text in found):
            return []
        return [f"nvidia-caps/nvidia-cap{int(text)}" for text in found]
