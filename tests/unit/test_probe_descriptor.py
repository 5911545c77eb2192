"""The capability descriptor, against section 7 of the specification."""

import json
from types import MappingProxyType

from fsm_miner.probe import Gpu, GpuReading, HostFacts, MigInstance, descriptor

HOST = HostFacts(
    cores=16,
    arch="x86_64",
    cpu_model=None,
    memory_mb=64000,
    memory_free_mb=50000,
    disk_free_mb=250000,
    load=(0.0, 0.0, 0.0),
    os_id="debian",
)
CARD = Gpu(
    id="GPU-1",
    vendor="nvidia",
    name="RTX 4060 Ti 16GB",
    vram_mb=16384,
    vram_free_mb=16000,
    index=0,
    driver="545.23.06",
    cuda_version="12.3",
    devices=("/dev/nvidia0",),
    visible_env=MappingProxyType({"CUDA_VISIBLE_DEVICES": "GPU-1"}),
)


def test_the_specifications_example():
    told = descriptor("node-abc123", "0.1.0", HOST, GpuReading((CARD,)), runners=["cli", "python"])
    assert told == {
        "node_id": "node-abc123",
        "version": "0.1.0",
        "cpu": {"cores": 16, "arch": "x86_64"},
        "memory_mb": 64000,
        "disk_free_mb": 250000,
        "gpu": [
            {
                "vendor": "nvidia",
                "name": "RTX 4060 Ti 16GB",
                "vram_mb": 16384,
                "vram_free_mb": 16000,
                "uuid": "GPU-1",
                "index": 0,
                "cuda": {"version": "12.3", "driver": "545.23.06"},
            }
        ],
        "runners": ["cli", "python"],
        "tags": ["debian", "gpu", "nvidia", "cuda", "cpu", "x86_64"],
    }
    assert json.loads(json.dumps(told)) == told


def test_a_node_without_gpus():
    told = descriptor("n", "1", HOST, GpuReading(), runners=["cli"])
    assert (told["gpu"], told["tags"]) == ([], ["debian", "cpu", "x86_64"])


def test_tags_of_people_and_facts_come_last_and_once():
    told = descriptor(
        "n",
        "1",
        HOST,
        GpuReading((CARD, CARD)),
        runners=[],
        tags=["cpu", "rack-7"],
        facts=["sandbox", "cgroup"],
    )
    assert told["tags"][-4:] == ["x86_64", "sandbox", "cgroup", "rack-7"]
    assert len(told["tags"]) == len(set(told["tags"]))


def test_mig_and_amd_entries():
    mig = Gpu("MIG-1", "nvidia", "A100 MIG", 4864, 4800, 0, mig=MigInstance("GPU-9", 7, 0))
    amd = Gpu("GPU-a", "amd", "MI", 1024, 1000, 0, driver="6.10", devices=("/dev/kfd", "/dev/dri/renderD128"))
    first, second = (told := descriptor("n", "1", HOST, GpuReading((mig, amd)), runners=[]))["gpu"]
    assert first["mig"] == {"parent": "GPU-9", "gpu_instance": 7, "compute_instance": 0}
    assert second["driver"] == "6.10"
    assert "cuda" not in second
    assert {"mig", "rocm", "amd"} <= set(told["tags"])
    assert "cuda" not in told["tags"]
