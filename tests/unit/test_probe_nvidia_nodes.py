"""The device nodes of NVIDIA cards and MIG instances."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fsm_miner.probe.gpu import MigInstance
from fsm_miner.probe.nvidia_nodes import NvidiaNodes

MIG = MigInstance("GPU-1", 1, 0)


def test_only_nodes_that_exist_and_a_problem_for_each_needed_one(tmp_path):
    (tmp_path / "nvidiactl").touch()
    devices, problems = NvidiaNodes(tmp_path, tmp_path).find(4)
    assert devices == (f"{tmp_path}/nvidiactl",)
    assert [problem.split()[0] for problem in problems] == [f"{tmp_path}/nvidia4", f"{tmp_path}/nvidia-uvm"]


def test_the_other_cards_nodes_are_never_among_them(tmp_path):
    for name in ("nvidia0", "nvidia1", "nvidia10", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    devices, problems = NvidiaNodes(tmp_path, tmp_path).find(1)
    assert devices == (f"{tmp_path}/nvidia1", f"{tmp_path}/nvidiactl", f"{tmp_path}/nvidia-uvm")
    assert problems == ()


def test_a_mig_instance_that_the_kernel_does_not_list_is_a_problem(tmp_path):
    _, problems = NvidiaNodes(tmp_path, tmp_path).find(0, MIG)
    assert "no line for gpu0/gi1/ci0" in problems[0]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
def test_no_content_of_the_minors_file_leads_outside_the_capabilities_folder(tmp_path, garbage):
    path = tmp_path / "driver/nvidia-caps/mig-minors"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"gpu0/gi1/access " + garbage + b"\ngpu0/gi1/ci0/access 12\n")
    _, problems = NvidiaNodes(tmp_path, tmp_path).find(0, MIG)
    for problem in problems:
        assert problem.split()[0].startswith((f"{tmp_path}/nvidia", f"{path}"))
        assert "/../" not in problem
