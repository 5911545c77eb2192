"""Jobs from real life, by their records or their bundle, happen again in the simulator; every promise is checked."""

import re

import pytest

from fsm_miner.forensics.bundle import write_bundle
from states import events as e
from tests.simulation.replayed import main, scenario_of, scenario_of_bundle
from tests.simulation.world import simulate
from tests.support import forensic_cases
from tests.support.cli_journal import START_NS, offered
from tests.support.forensic_cases import SECOND, intended, launched


@pytest.mark.parametrize("name", ["rough", "brief", "long"])
def test_a_case_happens_again_and_ends_as_it_did(name):
    case = getattr(forensic_cases, name)()
    scenario = scenario_of_bundle(write_bundle(case, exported_ns=1).data, name)
    assert scenario == scenario_of([step.record for step in case.story.steps])
    report = simulate(scenario)
    (spec,) = scenario.jobs
    last = case.story.steps[-1].job
    step, content = report.outcomes[spec.job_id, 1]
    assert step == ("result" if last.failure is None else "fail")
    assert last.failure is None or last.failure.code in content


def test_crashes_and_outages_of_a_case_happen_again():
    case = forensic_cases.rough()
    records = [step.record for step in case.story.steps]
    report = simulate(scenario_of(records))
    boots = len({record.boot_id for record in records}) - 1
    found = sum(record.event == "Reattached" for record in records)
    unanswered = sum(
        record.event == "RetryScheduled" and record.data["back_to"] == "UPLOADING" for record in records
    )
    assert boots + found + unanswered > 1
    assert report.crashes["power cut"] == boots
    assert report.crashes["kill"] >= found - boots
    assert (report.faults["network: 5xx"] > 0) == (unanswered > 0)


def test_an_end_that_no_daemon_saw_happens_again_without_one():
    timed = [(offered(), 0), (e.Acked(), 1), (e.PrepStarted(), 2), (intended(), 3), (launched(), 4)]
    timed += [(e.Ended("exited", 0, None, START_NS + 20 * SECOND, {}), 60 * SECOND)]
    timed += [(e.OutcomeKnown(None, "exit code 0"), 60 * SECOND), (e.Delivered(200), 61 * SECOND)]
    scenario = scenario_of([step.record for step in forensic_cases.case_of(timed).story.steps])
    (crash,) = scenario.acts
    assert (crash.what, crash.at_s) == ("kill -9", pytest.approx(19, abs=0.1))
    report = simulate(scenario)
    assert report.crashes["kill"] == 1
    assert report.lives == 2
    assert report.outcomes[scenario.jobs[0].job_id, 1][0] == "result"


def test_a_replay_says_in_the_end_how_many_promises_held(tmp_path, capsys, monkeypatch):
    bundle = tmp_path / "case.json"
    bundle.write_bytes(write_bundle(forensic_cases.brief(), exported_ns=1).data)
    monkeypatch.setattr("sys.argv", ["replayed.py", str(bundle)])
    assert main() == 0
    assert re.fullmatch(r"promises held: [1-9][0-9]*", capsys.readouterr().out.splitlines()[-1])


def test_records_without_an_offer_are_no_story():
    records = [step.record for step in forensic_cases.brief().story.steps]
    with pytest.raises(ValueError, match="begins with an offer"):
        scenario_of(records[1:])
