"""NVIDIA GPUs through the real pynvml and a stand-in driver, in a process of their own."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.nvml import reader
from tests.nvml.stand_in import (
    DRIVER_NOT_LOADED,
    GPU_IS_LOST,
    LIB_RM_VERSION_MISMATCH,
    NO_PERMISSION,
    UNINITIALIZED,
    Scenario,
    StandIn,
    build_library,
    cards,
    mig_card,
    one_card,
)

READER = Path(reader.__file__)


class Reader:
    """The other side of `tests/nvml/reader.py`."""

    def __init__(self, process):
        self.process = process

    def read(self):
        self.process.stdin.write("read\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def ids(self):
        return [gpu["id"] for gpu in self.read()["gpus"]]


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return build_library(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def driver(library, tmp_path):
    return StandIn(library, tmp_path / "scenario")


@pytest.fixture
def root(tmp_path):
    for name in ("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", *(f"nvidia{n}" for n in range(8))):
        path = tmp_path / "dev" / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    return tmp_path


@contextmanager
def reading(root: Path, env, deadline_s: float = 60) -> Iterator[Reader]:
    process = subprocess.Popen(
        [sys.executable, str(READER), str(root), str(deadline_s)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **env},
    )
    with process:
        try:
            yield Reader(process)
            process.stdin.close()
            assert process.wait(60) == 0
        finally:
            process.kill()


def test_no_library_is_no_error(root, tmp_path):
    # A file that is no library hides any real driver of this machine.
    (tmp_path / "libnvidia-ml.so.1").write_text("no ELF")
    with reading(root, {"LD_LIBRARY_PATH": str(tmp_path)}) as probe:
        assert probe.read() == {"gpus": [], "problems": [], "stale": False}


def test_a_driver_without_cards(root, driver):
    with reading(root, driver.env) as probe:
        assert probe.read() == {"gpus": [], "problems": [], "stale": False}


def test_one_card_in_full(root, driver):
    driver.show(one_card())
    uuid = one_card().cards[0].uuid
    dev = str(root / "dev")
    with reading(root, driver.env) as probe:
        assert probe.read() == {
            "gpus": [
                {
                    "id": uuid,
                    "vendor": "nvidia",
                    "name": "NVIDIA Stand-in 16GB",
                    "vram_mb": 16384,
                    "vram_free_mb": 16000,
                    "index": 0,
                    "driver": "545.23.06",
                    "cuda_version": "12.3",
                    "devices": [
                        f"{dev}/nvidia0",
                        f"{dev}/nvidiactl",
                        f"{dev}/nvidia-uvm",
                        f"{dev}/nvidia-uvm-tools",
                    ],
                    "reads": [],
                    "visible_env": {"CUDA_VISIBLE_DEVICES": uuid},
                    "mig": None,
                }
            ],
            "problems": [],
            "stale": False,
        }


def test_free_memory_is_fresh_at_each_reading(root, driver):
    card = one_card().cards[0]
    with reading(root, driver.env) as probe:
        seen = []
        for free in (16000, 123, 9000):
            driver.show(Scenario(cards=(replace(card, free_mb=free),)))
            seen.append(probe.read()["gpus"][0]["vram_free_mb"])
    assert seen == [16000, 123, 9000]


def test_eight_cards(root, driver):
    driver.show(cards(8))
    with reading(root, driver.env) as probe:
        gpus = probe.read()["gpus"]
    assert [gpu["vram_free_mb"] for gpu in gpus] == [16000 - 1000 * n for n in range(8)]
    assert len({gpu["id"] for gpu in gpus}) == 8
    assert [gpu["devices"][0] for gpu in gpus] == [str(root / f"dev/nvidia{n}") for n in range(8)]


def test_an_old_driver_that_knows_no_cuda_version(root, driver):
    driver.show(replace(one_card(), cuda=0))
    with reading(root, driver.env) as probe:
        assert probe.read()["gpus"][0]["cuda_version"] is None


def test_mig_instances_stand_for_their_card(root, driver):
    driver.show(mig_card())
    minors = root / "proc/driver/nvidia-caps/mig-minors"
    minors.parent.mkdir(parents=True)
    minors.write_text(
        "config 1\nmonitor 2\n"
        + "".join(
            f"gpu3/gi{gi}/access {gi * 10}\ngpu3/gi{gi}/ci0/access {gi * 10 + 1}\n" for gi in (7, 8, 13)
        )
    )
    caps = root / "dev/nvidia-caps"
    caps.mkdir()
    for n in (70, 71, 80, 81, 130, 131):
        (caps / f"nvidia-cap{n}").touch()
    with reading(root, driver.env) as probe:
        answer = probe.read()
    parent = mig_card().cards[0].uuid
    assert answer["problems"] == []
    assert [gpu["mig"] for gpu in answer["gpus"]] == [
        {"parent": parent, "gpu_instance": gi, "compute_instance": 0} for gi in (7, 8, 13)
    ]
    third = answer["gpus"][2]
    assert third["id"] == "MIG-00000000-0000-0000-0000-000000000013"
    assert third["visible_env"] == {"CUDA_VISIBLE_DEVICES": third["id"]}
    assert (third["vram_mb"], third["vram_free_mb"]) == (4864, 4800)
    assert third["name"] == "NVIDIA Stand-in MIG 1g.5gb"
    assert [node.removeprefix(str(root)) for node in third["devices"]] == [
        "/dev/nvidia3",
        "/dev/nvidiactl",
        "/dev/nvidia-uvm",
        "/dev/nvidia-caps/nvidia-cap130",
        "/dev/nvidia-caps/nvidia-cap131",
        "/dev/nvidia-uvm-tools",
    ]


def test_mig_without_instances_is_a_problem(root, driver):
    driver.show(Scenario(cards=(replace(mig_card().cards[0], instances=()),)))
    with reading(root, driver.env) as probe:
        answer = probe.read()
    assert answer["gpus"] == []
    assert "nvidia-smi mig -cgi" in answer["problems"][0]


@pytest.mark.parametrize("after", range(8))
def test_a_card_that_vanishes_is_left_out_and_reported(root, driver, after):
    """Whichever call about the card is the first to fail, also in the middle of a reading."""
    first, second, third = cards(3).cards
    driver.show(Scenario(cards=(first, replace(second, code=GPU_IS_LOST, after=after), third)))
    with reading(root, driver.env) as probe:
        for _ in range(2):
            answer = probe.read()
        assert [gpu["id"] for gpu in answer["gpus"]] == [first.uuid, third.uuid]
    assert answer["problems"] == ["NVIDIA card 1 is left out: GPU is lost; see nvidia-smi and dmesg"]


def test_a_card_that_came_back_is_found_after_a_while(root, driver):
    whole = cards(2)
    with reading(root, driver.env) as probe:
        driver.show(whole)
        assert len(probe.ids()) == 2
        driver.show(Scenario(cards=(whole.cards[0], replace(whole.cards[1], code=GPU_IS_LOST))))
        assert len(probe.ids()) == 1
        driver.show(whole)
        counts = [len(probe.ids()) for _ in range(21)]
    # The library remembers the loss until the session is opened again, which happens at every 20th reading.
    assert counts[0] == 1
    assert counts[-1] == 2


def test_a_reloaded_driver_works_at_once(root, driver):
    with reading(root, driver.env) as probe:
        driver.show(one_card())
        before = probe.read()
        driver.show(replace(one_card(), generation=2, driver="550.54.14", cuda=12040))
        after = probe.read()
    assert before["gpus"][0]["driver"] == "545.23.06"
    assert (after["gpus"][0]["driver"], after["gpus"][0]["cuda_version"]) == ("550.54.14", "12.4")
    assert after["problems"] == []


def test_an_unloaded_driver_is_reported_and_found_again(root, driver):
    with reading(root, driver.env) as probe:
        driver.show(one_card())
        assert len(probe.ids()) == 1
        driver.show(Scenario(generation=2, init=DRIVER_NOT_LOADED))
        unloaded = probe.read()
        driver.show(replace(one_card(), generation=3))
        assert len(probe.ids()) == 1
    assert unloaded["gpus"] == []
    assert "modprobe nvidia" in unloaded["problems"][0]


def test_a_session_that_ends_in_the_middle_of_a_reading_is_no_lost_card(root, driver):
    first, second = cards(2).cards
    driver.show(Scenario(cards=(first, replace(second, code=UNINITIALIZED, after=3))))
    with reading(root, driver.env) as probe:
        assert probe.read()["problems"] == ["NVML does not work: Uninitialized; see nvidia-smi and dmesg"]
        driver.show(cards(2))
        assert len(probe.ids()) == 2


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (DRIVER_NOT_LOADED, "modprobe nvidia"),
        (NO_PERMISSION, "/dev/nvidiactl"),
        (LIB_RM_VERSION_MISMATCH, "restart this daemon"),
        (999, "see nvidia-smi and dmesg"),
        (31337, "stand-in error 31337"),
    ],
)
def test_a_driver_that_refuses_is_a_problem_with_advice(root, driver, code, advice):
    driver.show(Scenario(init=code))
    with reading(root, driver.env) as probe:
        answer = probe.read()
    assert answer["gpus"] == []
    assert advice in answer["problems"][0]


@pytest.mark.parametrize("function", ["nvmlInitWithFlags", "nvmlDeviceGetMemoryInfo"])
def test_a_hanging_driver_hangs_nobody(root, driver, function):
    driver.show(one_card())
    hanging = replace(one_card(), hang=function)
    known = [] if function == "nvmlInitWithFlags" else [one_card().cards[0].uuid]
    with reading(root, driver.env, deadline_s=0.5) as probe:
        if known:
            wait_until_fresh(probe)
        driver.show(hanging)
        for _ in range(2):
            answer = probe.read()
            assert answer["stale"]
            assert [gpu["id"] for gpu in answer["gpus"]] == known
            assert "has not answered within 0.5 s" in answer["problems"][-1]
        driver.show(one_card())
        assert len(wait_until_fresh(probe)["gpus"]) == 1


def test_a_process_ends_while_the_driver_hangs(root, driver):
    driver.show(replace(one_card(), hang="nvmlInitWithFlags"))
    with reading(root, driver.env, deadline_s=0.2) as probe:
        assert probe.read()["stale"]
        probe.process.stdin.close()
        assert probe.process.wait(60) == 0


def wait_until_fresh(probe):
    """Read until the driver answers in time; the test's own time-out bounds it."""
    while (answer := probe.read())["stale"]:
        pass
    return answer


def test_missing_device_nodes_are_named(root, driver):
    driver.show(one_card())
    (root / "dev/nvidia-uvm").unlink()
    with reading(root, driver.env) as probe:
        answer = probe.read()
    assert str(root / "dev/nvidia-uvm") not in answer["gpus"][0]["devices"]
    problem = f"{root}/dev/nvidia-uvm is missing: a job on this GPU will not reach it; run nvidia-modprobe"
    assert answer["problems"] == [f"{one_card().cards[0].uuid}: {problem}"]
