"""Base scripts for the crash points: one life of a job each, short enough to end it at every point."""

from collections.abc import Callable
from dataclasses import replace

from tests.simulation.network import Fate
from tests.simulation.scenario import Act, Habits, JobSpec, Scenario
from tests.simulation.worksite import Behaviour

__all__ = ["SCRIPTS"]


def _one(behaviour: Behaviour, habits: Habits | None = None, **job) -> Scenario:
    return Scenario(1, (JobSpec("j1", 0.1, behaviour, **job),), habits or Habits())


def _lost_calls(scenario: Scenario, **fates: Fate) -> Scenario:
    script = {(name, 1): fate for name, fate in fates.items()}
    return replace(scenario, fates=script, fair_from_s=110.0)


SCRIPTS: dict[str, Callable[[], Scenario]] = {
    "success": lambda: _one(Behaviour(3.0)),
    "success with artifacts": lambda: _one(Behaviour(3.0), artifacts=True),
    "failure": lambda: _one(Behaviour(3.0, exit_code=3)),
    "killed by a signal": lambda: _one(Behaviour(3.0, signal=11)),
    "inputs fail once": lambda: _one(Behaviour(2.0, input_failures=1), artifacts=True),
    "inputs never come": lambda: _one(Behaviour(2.0, input_failures=9)),
    "denied": lambda: _one(Behaviour(denied=True)),
    "launch fails": lambda: _one(Behaviour(launch_fails=True)),
    "an artifact is missing": lambda: _one(Behaviour(2.0, artifact_missing=True), artifacts=True),
    "the result is refused": lambda: _one(Behaviour(2.0), Habits(rejects_results=True)),
    "time limit": lambda: _one(Behaviour(hangs=True), timeout_s=8.0),
    "too much memory": lambda: _one(Behaviour(30.0, hog_after_s=4.0)),
    "GPU": lambda: _one(Behaviour(3.0), gpu_mb=8000, artifacts=True),
    "the GPU is gone": lambda: Scenario(
        1,
        (JobSpec("j1", 0.1, Behaviour(3.0), gpu_mb=8000),),
        cards_mb=(8000,),
        acts=(Act(0.25, "cards", ()), Act(40.0, "cards", (8000,))),
    ),
    "secret": lambda: _one(Behaviour(3.0), secret=True),
    "cancelled while it runs": lambda: replace(_one(Behaviour(60.0)), acts=(Act(4.0, "cancel", "j1"),)),
    "cancelled while it waits": lambda: replace(
        _one(Behaviour(3.0, input_failures=2)), acts=(Act(1.5, "cancel", "j1"),)
    ),
    "given away while it runs": lambda: replace(_one(Behaviour(20.0)), acts=(Act(4.0, "give away", "j1"),)),
    "given away, no reconcile": lambda: replace(
        _one(Behaviour(20.0), Habits(reconcile=False)), acts=(Act(4.0, "give away", "j1"),)
    ),
    "minimal coordinator": lambda: _one(
        Behaviour(3.0),
        Habits(registration=False, heartbeats=False, reconcile=False, progress=False, lease_s=None),
        artifacts=True,
    ),
    "answers get lost": lambda: _lost_calls(
        _one(Behaviour(3.0), artifacts=True),
        register=Fate.ANSWER_LOST,
        pull=Fate.ANSWER_LOST,
        ack=Fate.ANSWER_LOST,
        result=Fate.ANSWER_LOST,
    ),
    "tokens get lost": lambda: _lost_calls(
        _one(Behaviour(3.0, exit_code=1)), ack=Fate.TOKEN_GONE, fail=Fate.TOKEN_GONE
    ),
    "two jobs, one slot": lambda: Scenario(
        1, (JobSpec("j1", 0.1, Behaviour(3.0)), JobSpec("j2", 0.2, Behaviour(2.0, exit_code=1))), cpu=1
    ),
}
