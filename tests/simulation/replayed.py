"""What happened to a job in real life, made into a scenario: its manifest, its runs, its crashes and its outages.

    python tests/simulation/replayed.py BUNDLE       a bundle is what `fsm-miner export JOB` writes

The records say what happened, not why; so the scenario is one in which the same would happen: a crash where a daemon
found the job again, a power cut where the boot is another one, an outage where a delivery had no answer.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[2]))

from fsm_miner.forensics.bundle import parse_bundle
from fsm_miner.forensics.telling import LATE_NS
from journal.port import Record
from tests.simulation.network import Fate, Outage
from tests.simulation.scenario import Act, Habits, JobSpec, Scenario, written
from tests.simulation.worksite import Behaviour
from tests.simulation.world import simulate

__all__ = ["scenario_of", "scenario_of_bundle"]

_GAP_S_MAX = 7 * 86400.0
_NS_PER_S = 1_000_000_000
_DOWN_S = 2.0
_EARLIER_S = 5.0


def scenario_of_bundle(data: bytes, name: str) -> Scenario:
    """Return the scenario of a bundle.

    Raises:
        BundleBroken: it is no bundle.
        ValueError: its records tell of no offer.

    """
    return scenario_of([step.record for step in parse_bundle(data, name).story.steps])


def scenario_of(records: Sequence[Record]) -> Scenario:
    """Return the scenario of one attempt's records.

    Raises:
        ValueError: the first of them is no offer.

    """
    if not records or records[0].event != "Offered":
        raise ValueError("a story begins with an offer")
    times_s = _times(records)
    job_id = records[0].job_id
    acts = [Act(at_s, "cancel", job_id) for at_s in _when(records, times_s, "CancelRequested")]
    given_away = _when(records, times_s, "AbandonRequested") or _when(records, times_s, "Superseded")
    acts += [Act(at_s, "give away", job_id) for at_s in given_away]
    crashes = _crashes(records, times_s)
    manifest = records[0].data.get("manifest", {})
    wants = manifest.get("requirements") or {}
    how = _behaviour(records)
    limit_s = float(manifest.get("timeout_s") or 3600.0)
    if not how.hangs:  # it kept to its limit then, whatever that was
        limit_s = max(limit_s, 2 * how.duration_s)
    spec = JobSpec(
        job_id,
        0.0,
        how,
        gpu_mb=int(wants.get("vram_mb") or 0) if wants.get("gpu") else None,
        artifacts=bool(manifest.get("artifacts")),
        secret=bool(manifest.get("secret_names")),
        timeout_s=limit_s,
    )
    return Scenario(
        seed=1,
        jobs=(spec,),
        habits=Habits(lease_s=None),
        acts=tuple(sorted([*acts, *crashes], key=lambda act: act.at_s)),
        outages=_outages(records, times_s),
        downtime_s=(_DOWN_S,),
        fair_from_s=times_s[-1] + 1.0,
        ends_within_s=8 * 3600.0 + 4 * spec.behaviour.duration_s + 4 * spec.timeout_s,
        cards_mb=(max(16000, spec.gpu_mb or 0),),
    )


def _times(records: Sequence[Record]) -> list[float]:
    """Seconds since the offer; a clock that was set meanwhile makes them neither run back nor leap."""
    times_s = [0.0]
    for before, after in pairwise(records):
        gap_s = (after.at_ns - before.at_ns) / _NS_PER_S
        times_s.append(times_s[-1] + min(max(gap_s, 0.0), _GAP_S_MAX))
    return times_s


def _when(records: Sequence[Record], times_s: Sequence[float], event: str) -> list[float]:
    return [at_s for record, at_s in zip(records, times_s, strict=True) if record.event == event]


def _crashes(records: Sequence[Record], times_s: Sequence[float]) -> list[Act]:
    acts: list[Act] = []
    for number in range(1, len(records)):
        middle_s = (times_s[number - 1] + times_s[number]) / 2
        if records[number].boot_id != records[number - 1].boot_id:
            acts.append(Act(middle_s, "power cut"))
        elif records[number].event == "Reattached":
            acts.append(Act(middle_s, "kill -9"))
        elif late_s := _late_s(records[number]):
            # Shortly before the run ended, so that it does so before the next daemon is there.
            ended_s = max(times_s[number] - late_s, times_s[number - 1])
            acts.append(Act(max(ended_s - _DOWN_S / 2, (times_s[number - 1] + ended_s) / 2), "kill -9"))
    return acts


def _late_s(record: Record) -> float:
    """Return how long after a run had ended that was written down, if nobody can have been there; else 0."""
    if record.event != "Ended" or record.data["how"] == "lost":
        return 0.0
    late_ns = record.at_ns - record.data["finished_ns"]
    return late_ns / _NS_PER_S if late_ns > LATE_NS else 0.0


def _outages(records: Sequence[Record], times_s: Sequence[float]) -> tuple[Outage, ...]:
    """One outage, from shortly before the outcome was known to the last delivery that nobody answered."""
    failed_s = [
        at_s
        for record, at_s in zip(records, times_s, strict=True)
        if record.event == "RetryScheduled" and record.data.get("back_to") == "UPLOADING"
    ]
    if not failed_s:
        return ()
    known_s = _when(records, times_s, "OutcomeKnown")[0]
    calls = frozenset({"result", "fail"})
    return (Outage(known_s - _EARLIER_S, failed_s[-1], Fate.SERVER_ERROR, calls),)


def _behaviour(records: Sequence[Record]) -> Behaviour:
    """What the last run did, and what happened before there was one."""
    inputs = sum(
        record.event == "RetryScheduled" and record.data.get("code") == "E_INPUT" for record in records
    )
    code = next(
        (r.data.get("code") for r in reversed(records) if r.event in {"OutcomeKnown", "OutcomeRevised"}), None
    )
    how = Behaviour(
        input_failures=inputs,
        input_permanent=code == "E_INPUT",
        artifact_missing=code == "E_ARTIFACT",
        denied=code == "E_DENY",
    )
    launched = next((record for record in reversed(records) if record.event == "Launched"), None)
    if launched is None:
        return replace(how, launch_fails=code == "E_INTERNAL")
    if code == "E_TIMEOUT":
        return replace(how, hangs=True)
    ended = next((r for r in reversed(records) if r.event == "Ended" and r.seq > launched.seq), None)
    if ended is None:
        return replace(how, duration_s=(records[-1].at_ns - launched.at_ns) / _NS_PER_S + 60.0)
    return _as_it_ended(how, launched.data, ended.data, code)


def _as_it_ended(
    how: Behaviour, launched: dict[str, Any], ended: dict[str, Any], code: str | None
) -> Behaviour:
    lasted_s = (ended["finished_ns"] - launched["started_ns"]) / _NS_PER_S
    lasted_s = min(max(lasted_s, 0.05), _GAP_S_MAX)
    if code == "E_OOM":
        return replace(how, duration_s=2 * lasted_s, hog_after_s=lasted_s)
    if code == "E_CANCELLED":
        lasted_s += 3600.0
    vanished = ended["exit_code"] is None and ended["signal"] is None and code == "E_LOST"
    return replace(
        how, duration_s=lasted_s, exit_code=ended["exit_code"] or 0, signal=ended["signal"], vanishes=vanished
    )


def main() -> int:
    path = Path(sys.argv[1])
    scenario = scenario_of_bundle(path.read_bytes(), str(path))
    report = simulate(scenario)
    print(written(scenario), *report.history, f"promises held: {len(report.checked)}", sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
