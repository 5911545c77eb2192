"""AMD and Intel GPUs, from trees of files that look like /sys and /dev."""

from pathlib import Path

import pytest

from fsm_miner.probe.amd import AmdSource
from fsm_miner.probe.gpu import GpuReading
from fsm_miner.probe.intel import IntelSource

GIB = 1 << 30


class Machine:
    """A /sys and a /dev below one folder, built card by card."""

    def __init__(self, root: Path) -> None:
        self.sysfs, self.dev = root / "sys", root / "dev"
        (self.dev / "dri").mkdir(parents=True)

    def add(self, number, vendor, pci, files, card_files=None, render=128, node=True):
        device = self.sysfs / "devices/pci0000:00" / pci
        card = device / "drm" / f"card{number}"
        card.mkdir(parents=True)
        if render is not None:
            (device / "drm" / f"renderD{render}").mkdir()
        if node and render is not None:
            (self.dev / "dri" / f"renderD{render}").touch()
        for name, text in {"vendor": vendor, **files}.items():
            (device / name).parent.mkdir(parents=True, exist_ok=True)
            (device / name).write_text(f"{text}\n")
        for name, text in (card_files or {}).items():
            (card / name).write_text(f"{text}\n")
        (card / "device").symlink_to("../..")
        link = self.sysfs / "class/drm" / f"card{number}"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(card)
        # A connector is listed beside the cards in the real folder.
        (self.sysfs / "class/drm" / f"card{number}-DP-1").mkdir()


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def amd(machine):
    return AmdSource(machine.sysfs, machine.dev).read()


def intel(machine):
    return IntelSource(machine.sysfs, machine.dev).read()


def add_amd(machine, number=0, pci="0000:03:00.0", **files):
    own = {"device": "0x744c", "mem_info_vram_total": 24 * GIB, "mem_info_vram_used": 4 * GIB}
    machine.add(number, "0x1002", pci, {**own, **files}, render=128 + number)


def test_no_graphics_at_all_is_no_error(tmp_path):
    assert AmdSource(tmp_path / "sys", tmp_path / "dev").read() == GpuReading()
    assert IntelSource(tmp_path / "sys", tmp_path / "dev").read() == GpuReading()


def test_an_amd_card_in_full(machine):
    (machine.dev / "kfd").touch()
    (machine.sysfs / "module/amdgpu").mkdir(parents=True)
    (machine.sysfs / "module/amdgpu/version").write_text("6.10.5\n")
    add_amd(machine, product_name="AMD Instinct Something", unique_id="4b2c1a9f8d3e6f7a")
    (gpu,) = amd(machine).gpus
    assert (gpu.id, gpu.vendor, gpu.name) == ("GPU-4b2c1a9f8d3e6f7a", "amd", "AMD Instinct Something")
    assert (gpu.vram_mb, gpu.vram_free_mb, gpu.driver) == (24576, 20480, "6.10.5")
    assert gpu.devices == (str(machine.dev / "kfd"), str(machine.dev / "dri/renderD128"))
    assert gpu.visible_env == {"ROCR_VISIBLE_DEVICES": "GPU-4b2c1a9f8d3e6f7a"}
    assert gpu.reads == (str(machine.sysfs),)


@pytest.mark.parametrize("unique_id", ["", "0000000000000000", "../../etc/passwd"])
def test_an_amd_card_without_a_unique_id_goes_by_its_address(machine, unique_id):
    add_amd(machine, unique_id=unique_id)
    (gpu,) = amd(machine).gpus
    assert (gpu.id, gpu.name) == ("AMD-0000:03:00.0", "AMD GPU 0x744c")
    assert gpu.visible_env == {"ROCR_VISIBLE_DEVICES": "0"}


def test_amd_cards_come_in_the_order_of_their_numbers(machine):
    for number in (10, 2, 1):
        add_amd(machine, number, pci=f"0000:{number:02x}:00.0")
    assert [gpu.id for gpu in amd(machine).gpus] == [
        "AMD-0000:01:00.0",
        "AMD-0000:02:00.0",
        "AMD-0000:0a:00.0",
    ]
    assert [gpu.index for gpu in amd(machine).gpus] == [0, 1, 2]


def test_amd_without_kfd_is_a_problem(machine):
    add_amd(machine)
    reading = amd(machine)
    assert reading.gpus[0].devices == (str(machine.dev / "dri/renderD128"),)
    assert "kfd is missing" in reading.problems[0]


def test_an_amd_card_without_its_driver_is_left_out_and_reported(machine):
    machine.add(0, "0x1002", "0000:03:00.0", {"device": "0x744c"})
    reading = amd(machine)
    assert reading.gpus == ()
    assert "mem_info_vram_total" in reading.problems[0]


def test_unknown_use_of_amd_memory_counts_as_none_free(machine):
    add_amd(machine, mem_info_vram_used="broken")
    assert amd(machine).gpus[0].vram_free_mb == 0


def test_an_intel_card_of_the_xe_driver_adds_up_its_tiles(machine):
    sizes = {f"tile{n}/physical_vram_size_bytes": 12 * GIB for n in range(2)}
    machine.add(1, "0x8086", "0000:04:00.0", {"device": "0xe20b", **sizes}, render=129)
    reading = intel(machine)
    (gpu,) = reading.gpus
    assert (gpu.id, gpu.vendor, gpu.name) == ("INTEL-0000:04:00.0", "intel", "Intel GPU 0xe20b")
    assert (gpu.vram_mb, gpu.vram_free_mb) == (24576, 24576)
    assert gpu.devices == (str(machine.dev / "dri/renderD129"),)
    assert gpu.visible_env == {"ZE_AFFINITY_MASK": "0"}
    assert reading.problems == ()


def test_an_intel_card_of_intels_i915(machine):
    memory = {"lmem_total_bytes": 16 * GIB, "lmem_avail_bytes": 15 * GIB}
    machine.add(0, "0x8086", "0000:03:00.0", {"device": "0x56a0"}, card_files=memory)
    (gpu,) = intel(machine).gpus
    assert (gpu.vram_mb, gpu.vram_free_mb) == (16384, 15360)


def test_integrated_intel_graphics_are_not_listed(machine):
    machine.add(0, "0x8086", "0000:00:02.0", {"device": "0x46a6"})
    assert intel(machine) == GpuReading()


def test_an_intel_card_without_a_render_node_is_a_problem(machine):
    files = {"device": "0xe20b", "tile0/physical_vram_size_bytes": GIB}
    machine.add(0, "0x8086", "0000:04:00.0", files, node=False)
    assert "no render node" in intel(machine).problems[0]


def test_each_vendor_sees_only_its_own(machine):
    add_amd(machine)
    machine.add(
        1, "0x8086", "0000:04:00.0", {"device": "0xe20b", "tile0/physical_vram_size_bytes": GIB}, render=129
    )
    machine.add(2, "0x1a03", "0000:05:00.0", {"device": "0x2000"}, render=None)
    assert [gpu.vendor for gpu in amd(machine).gpus + intel(machine).gpus] == ["amd", "intel"]


def test_a_virtual_display_is_passed_over(machine):
    add_amd(machine)
    device = machine.sysfs / "devices/platform/vkms"
    (device / "drm/card7").mkdir(parents=True)
    (device / "vendor").write_text("0x1002\n")
    (machine.sysfs / "class/drm/card7").mkdir()
    (machine.sysfs / "class/drm/card7/device").symlink_to(device)
    (machine.sysfs / "class/drm/card8").symlink_to("nowhere")
    assert len(amd(machine).gpus) == 1
