"""What a run gets of its cards: their devices, each once, what their runtime reads, and words that name no other."""

import pytest

from fsm_miner.config import parse_config
from fsm_miner.manifest import parse_offer
from fsm_miner.probe.gpu import Gpu
from fsm_miner.site.checks import Verdict
from fsm_miner.site.plan import Planner
from fsm_miner.workspace import Workspace
from runners.run import Bind

CONFIG = """
coordinator: {{base_url: 'http://127.0.0.1:1/api/v1', auth_token: 'env:MINER_AUTH'}}
sandbox: {{backend: {backend}}}
"""


def card(number, **more):
    return Gpu(
        id=f"GPU-{number}",
        vendor="nvidia",
        name="a card",
        vram_mb=16384,
        vram_free_mb=16000,
        index=number,
        devices=(f"/dev/nvidia{number}", "/dev/nvidiactl", "/dev/nvidia-uvm"),
        reads=("/usr/lib/cards",),
        visible_env={"CUDA_VISIBLE_DEVICES": f"GPU-{number}"},
        **more,
    )


def planned(folder, *cards, backend="bubblewrap"):
    offer = parse_offer({"job_id": "j-1", "runner": "cli", "command": "x", "requirements": {"gpu": True}})
    assert offer.manifest is not None
    planner = Planner(parse_config(CONFIG.format(backend=backend), "config.yaml", folder))
    verdict = Verdict("/bin/true", 60.0, 64, 10)
    return planner.plan(offer.manifest, verdict, Workspace(folder, "j-1", 1), 1, cards).spec


def test_a_run_gets_the_devices_of_its_own_cards_each_once(tmp_path):
    spec = planned(tmp_path, card(1), card(3))
    shared = ("/dev/nvidiactl", "/dev/nvidia-uvm")
    assert spec.devices == ("/dev/nvidia1", *shared, "/dev/nvidia3")
    assert spec.gpu
    assert spec.env["CUDA_VISIBLE_DEVICES"] == "GPU-3"
    assert [bind.target for bind in spec.binds] == ["/usr/lib/cards"]
    assert not any(bind.writable for bind in spec.binds)


@pytest.mark.parametrize("backend", ["bubblewrap", "none"])
def test_a_run_without_a_card_gets_none(tmp_path, backend):
    spec = planned(tmp_path, backend=backend)
    assert (spec.devices, spec.binds, spec.gpu) == ((), (), False)


def test_without_a_sandbox_nothing_is_bound(tmp_path):
    assert planned(tmp_path, card(0), backend="none").binds == ()
    assert isinstance(planned(tmp_path, card(0)).binds[0], Bind)
