"""The capability descriptor that the node registers with (section 7)."""

from collections.abc import Iterable, Iterator
from typing import Any

from fsm_miner.probe.gpu import Gpu, GpuReading
from fsm_miner.probe.host import HostFacts

__all__ = ["descriptor"]


def descriptor(
    node_id: str,
    version: str,
    host: HostFacts,
    gpus: GpuReading,
    *,
    runners: Iterable[str],
    tags: Iterable[str] = (),
    facts: Iterable[str] = (),
) -> dict[str, Any]:
    """Return the descriptor as JSON-ready data, with every field of the specification's example.

    Beyond the example: the CPU's model, and for each GPU its uuid, index, free memory and MIG place.
    `facts` are tags that the caller found out (`sandbox`, `cgroup`), `tags` those of the configuration.
    """
    cpu: dict[str, Any] = {"cores": host.cores, "arch": host.arch}
    if host.cpu_model is not None:
        cpu["model"] = host.cpu_model
    return {
        "node_id": node_id,
        "version": version,
        "cpu": cpu,
        "memory_mb": host.memory_mb,
        "disk_free_mb": host.disk_free_mb,
        "gpu": [_gpu(gpu) for gpu in gpus.gpus],
        "runners": list(runners),
        # In this order, each once: what the machine is, what the caller found, what people added.
        "tags": list(dict.fromkeys([*_tags(host, gpus.gpus), *facts, *tags])),
    }


def _gpu(gpu: Gpu) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "vendor": gpu.vendor,
        "name": gpu.name,
        "vram_mb": gpu.vram_mb,
        "vram_free_mb": gpu.vram_free_mb,
        "uuid": gpu.id,
        "index": gpu.index,
    }
    if gpu.vendor == "nvidia":
        entry["cuda"] = {"version": gpu.cuda_version, "driver": gpu.driver}
    elif gpu.driver is not None:
        entry["driver"] = gpu.driver
    if gpu.mig is not None:
        entry["mig"] = {
            "parent": gpu.mig.parent,
            "gpu_instance": gpu.mig.gpu_instance,
            "compute_instance": gpu.mig.compute_instance,
        }
    return entry


def _tags(host: HostFacts, gpus: Iterable[Gpu]) -> Iterator[str]:
    if host.os_id is not None:
        yield host.os_id
    for gpu in gpus:
        yield "gpu"
        yield gpu.vendor
        if gpu.cuda_version is not None:
            yield "cuda"
        if any(node.endswith("/kfd") for node in gpu.devices):
            yield "rocm"
        if gpu.mig is not None:
            yield "mig"
    yield "cpu"
    yield host.arch
