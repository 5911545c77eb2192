"""The probe on a real NVIDIA card, against what nvidia-smi says. Hardware is no tool: without it this skips."""

import asyncio
import shutil
import subprocess
from pathlib import Path

import pytest

from fsm_miner.probe import ThreadedInventory, gpu_sources

pytestmark = pytest.mark.skipif(
    not Path("/dev/nvidiactl").exists(), reason="no NVIDIA card here (/dev/nvidiactl)"
)


@pytest.fixture
def reading():
    async def read():
        return await ThreadedInventory(gpu_sources(), deadline_s=60).read()

    return asyncio.run(read())


def test_cards_are_complete(reading):
    assert not reading.stale
    assert reading.gpus
    for gpu in reading.gpus:
        if gpu.vendor != "nvidia":
            continue
        assert gpu.id.startswith(("GPU-", "MIG-"))
        assert gpu.driver
        assert gpu.cuda_version
        assert 0 <= gpu.vram_free_mb <= gpu.vram_mb
        assert gpu.visible_env["CUDA_VISIBLE_DEVICES"] == gpu.id
        assert all(Path(node).is_char_device() for node in gpu.devices)


def test_nvidia_smi_agrees(reading):
    if shutil.which("nvidia-smi") is None:
        pytest.skip("no nvidia-smi here")
    query = [
        "nvidia-smi",
        "--query-gpu=uuid,name,memory.total,driver_version",
        "--format=csv,noheader,nounits",
    ]
    lines = subprocess.run(query, capture_output=True, text=True, check=True, timeout=120).stdout.splitlines()
    told = {tuple(field.strip() for field in line.split(",")) for line in lines}
    whole = [gpu for gpu in reading.gpus if gpu.vendor == "nvidia" and gpu.mig is None]
    assert {(gpu.id, gpu.name, str(gpu.vram_mb), gpu.driver) for gpu in whole} <= told
    parents = {gpu.mig.parent for gpu in reading.gpus if gpu.mig is not None}
    assert {gpu.id for gpu in whole} | parents == {uuid for uuid, *_ in told}
