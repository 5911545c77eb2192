"""The limits that a run gets, from the configuration and the verdict."""

import pytest

from fsm_miner.config import ConfigError, parse_config
from fsm_miner.site.checks import Verdict
from fsm_miner.site.plan import Planner
from runners.run import Limits

COORDINATOR = "coordinator: {base_url: 'http://127.0.0.1:1/api/v1', auth_token: 'env:MINER_AUTH'}\n"


def config(tmp_path, resources=""):
    return parse_config(COORDINATOR + f"resources: {{{resources}}}\n", "config.yaml", tmp_path)


def test_every_limit_comes_from_where_it_is_set(tmp_path):
    text = """
timeouts: {stop_grace_s: 7}
workspace: {max_files: 321}
resources: {max_processes: 99, cpu_nice: 13, io_class: idle, io_level: 3, swap_mb: 55}
"""
    planner = Planner(parse_config(COORDINATOR + text, "config.yaml", tmp_path))
    assert planner.limits(Verdict("/bin/true", 60.0, 64, 10), 3) == Limits(
        time_s=60.0,
        grace_s=7,
        memory_mb=64,
        output_mb=10,
        log_mb=64,
        files=321,
        processes=99,
        nice=13,
        io_class="idle",
        io_level=3,
        cpu_threads=3,
        swap_mb=55,
    )


@pytest.mark.parametrize(("resources", "processes"), [("", 1024), ("max_processes: 16", 16)])
def test_how_many_processes_a_job_may_have_is_the_operators(tmp_path, resources, processes):
    planner = Planner(config(tmp_path, resources))
    assert planner.limits(Verdict("/bin/true", 60.0, 64, 10), None).processes == processes


@pytest.mark.parametrize("wrong", [15, 16385, "many", True])
def test_a_number_of_processes_that_can_not_be_watched_is_refused(tmp_path, wrong):
    with pytest.raises(ConfigError, match=r"resources\.max_processes"):
        config(tmp_path, f"max_processes: {wrong}")
