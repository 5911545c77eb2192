"""What a GPU is to this node, and what a source of GPUs promises."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol

__all__ = ["NOTHING", "Gpu", "GpuInventory", "GpuReading", "GpuSource", "MigInstance", "mib"]

BYTES_PER_MIB = 1 << 20


def mib(size_bytes: int) -> int:
    """Whole MiB in `size_bytes`, rounded down: a promise is never larger than the thing."""
    return max(0, size_bytes) // BYTES_PER_MIB


@dataclass(frozen=True, slots=True)
class MigInstance:
    """Where a MIG instance lives: its card's UUID and its two numbers there (NVIDIA MIG user guide)."""

    parent: str
    gpu_instance: int
    compute_instance: int


@dataclass(frozen=True, slots=True)
class Gpu:
    """One thing that a job can have to itself: a card, or a MIG instance of one.

    `id` stays the same across restarts: the UUID for NVIDIA (`GPU-…`, `MIG-…`), `GPU-<unique id>` or
    the PCI address for the others. `index` is the driver's number of the card, for people; it may change at boot.
    Sizes are in MiB. `devices` are the device nodes that a job on it needs, only those that exist;
    `reads` are host folders that its runtime reads, to be bound read-only; `visible_env` makes the
    runtime see this GPU and no other.
    """

    id: str
    vendor: str
    name: str
    vram_mb: int
    vram_free_mb: int
    index: int
    driver: str | None = None
    cuda_version: str | None = None
    devices: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    visible_env: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    mig: MigInstance | None = None


@dataclass(frozen=True, slots=True)
class GpuReading:
    """What was found, and in `problems` a sentence for each thing that should be there and is not.

    `stale`: the driver did not answer in time, and these are the GPUs of the last answer.
    """

    gpus: tuple[Gpu, ...] = ()
    problems: tuple[str, ...] = ()
    stale: bool = False


NOTHING = GpuReading()


class GpuSource(Protocol):
    """One vendor's GPUs. Called from one thread at a time; may block on the driver."""

    def read(self) -> GpuReading:
        """Return the GPUs as they are now. Trouble becomes a problem, never an exception."""
        ...


class GpuInventory(Protocol):
    """The node's GPUs, for the daemon."""

    async def read(self) -> GpuReading:
        """Return all GPUs with their free memory, in bounded time."""
        ...
