"""What this node can do: its CPU, memory, disk and GPUs (section 7).

`HostProbe` looks at the machine, `ThreadedInventory` at the GPUs of all vendors, and `descriptor` puts both
into the words of the wire. How each GPU is found, and what a job on it gets, is in docs/gpu.md.
"""

from fsm_miner.probe.descriptor import descriptor
from fsm_miner.probe.gpu import Gpu, GpuInventory, GpuReading, GpuSource, MigInstance
from fsm_miner.probe.host import HostFacts, HostProbe
from fsm_miner.probe.inventory import DEADLINE_S, ThreadedInventory, gpu_sources, read_sources

__all__ = [
    "DEADLINE_S",
    "Gpu",
    "GpuInventory",
    "GpuReading",
    "GpuSource",
    "HostFacts",
    "HostProbe",
    "MigInstance",
    "ThreadedInventory",
    "descriptor",
    "gpu_sources",
    "read_sources",
]
