"""What a launch makes of what an earlier daemon has left: it never starts a run that may have been started."""

import asyncio

import pytest

from fsm_miner.clock import SystemClock, SystemDice
from fsm_miner.config import parse_config
from fsm_miner.site.egress import Egress
from fsm_miner.site.plan import Planner
from fsm_miner.site.process import Processes
from fsm_miner.site.worksite import MachineSite
from fsm_miner.worksite import NotNow
from runners.reserve import DiskReserve
from states import stimuli as s
from states.codes import ErrorCode
from states.events import LaunchIntended
from states.job import Job
from states.table import State

CONFIG = "coordinator: {base_url: 'http://127.0.0.1:1/api/v1', auth_token: 'env:MINER_AUTH'}\n"


def site(root, boot_id="this-boot"):
    """A worksite that can look, but has nothing to start anything with: a start would raise."""
    config = parse_config(CONFIG, "config.yaml", root)
    reserve = DiskReserve(root, 0, 0)
    processes = Processes(None, lambda: None, boot_id, reserve, clock=SystemClock(), dice=SystemDice())
    return MachineSite(
        root,
        None,
        Planner(config),
        processes,
        None,
        None,
        Egress(None, None),
        isolation=lambda _cgroup: (),
        boot_id=boot_id,
        clock=SystemClock(),
        dice=SystemDice(),
        log=None,
    )


def intended(boot_id):
    intent = LaunchIntended(1, boot_id, "/lock", None, "/bin/true", "0" * 64, 60.0, 64, 10)
    return Job(job_id="j-1", state=State.PREP, run=1, intent=intent)


def processes(root, *answers):
    """With these answers to where cgroups may be made, one for each time it is asked."""
    given = iter(answers)
    return Processes(
        None, lambda: next(given), "boot", DiskReserve(root, 0, 0), clock=SystemClock(), dice=SystemDice()
    )


def test_a_node_that_promised_cgroups_waits_for_them_rather_than_run_without(tmp_path):
    jobs_unit = tmp_path / "jobs.service"
    here = processes(tmp_path, jobs_unit, None, jobs_unit)
    with pytest.raises(NotNow, match="systemctl start aitbc-miner-jobs"):
        here.cgroup_for("j-1.run-1")
    assert here.cgroup_for("j-1.run-1") == jobs_unit / "j-1.run-1"


def test_a_run_that_was_to_have_a_cgroup_is_not_started_while_there_is_none(tmp_path):
    with pytest.raises(NotNow):
        asyncio.run(
            processes(tmp_path, None, None).launch(None, tmp_path / "jobs.service" / "j-1.run-1", (), None)
        )


def test_a_machine_without_cgroups_runs_without(tmp_path):
    assert processes(tmp_path, None, None).cgroup_for("j-1.run-1") is None


def test_a_run_intended_before_a_reboot_counts_as_started(tmp_path):
    answer = asyncio.run(site(tmp_path).launch(intended("the-boot-before"), only_look=False))
    assert isinstance(answer, s.LaunchSucceeded)
    assert answer.pid is None


def test_such_a_run_is_then_found_lost(tmp_path):
    async def play():
        here = site(tmp_path)
        job = intended("the-boot-before")
        launched = await here.launch(job, only_look=False)
        job = job._replace(state=State.RUNNING, launch=launched)
        return await here.watch(job, None)

    gone = asyncio.run(play())
    assert isinstance(gone, s.ProcessGone)
    assert gone.how is s.How.LOST


@pytest.mark.parametrize("boot_id", ["this-boot", "the-boot-before"])
def test_a_lock_file_means_that_it_was_started(tmp_path, boot_id):
    (tmp_path / "j-1" / "control").mkdir(parents=True)
    (tmp_path / "j-1" / "control" / "run-1.lock").touch()
    answer = asyncio.run(site(tmp_path).launch(intended(boot_id), only_look=True))
    assert isinstance(answer, s.LaunchSucceeded)


def test_a_run_that_was_surely_not_started_is_not_started_to_be_stopped(tmp_path):
    answer = asyncio.run(site(tmp_path).launch(intended("this-boot"), only_look=True))
    assert isinstance(answer, s.LaunchFailed)
    assert answer.failure.code is ErrorCode.CANCELLED


def test_what_another_boot_left_is_not_collected(tmp_path):
    answer = asyncio.run(site(tmp_path).collect(intended("the-boot-before")))
    assert isinstance(answer, s.OutputDoubted)


def test_a_run_whose_records_were_lost_is_not_prepared_over(tmp_path):
    """Its folder would be wiped, and then its exit code taken for that of a run that never was."""
    left = tmp_path / "j-1" / "work" / "left.txt"
    for path in (left, tmp_path / "j-1" / "control" / "run-1.lock"):
        path.parent.mkdir(parents=True)
        path.touch()
    job = Job(job_id="j-1", state=State.PREP, run=1)
    answer = asyncio.run(site(tmp_path).prepare(job))
    assert isinstance(answer, s.PrepFailed)
    assert answer.failure.code is ErrorCode.LOST
    assert answer.failure.retry_here
    assert left.exists()
