"""The rulebook: which event leads from which state to which.

    IDLE ─Offered─► PULLING ─Acked─► ACKED ─PrepStarted─► PREP ─Launched─► RUNNING
                       │                                  │ │                │  │
                       │                     OutcomeKnown │ └─RetryScheduled─┼──┼─► RETRY_WAIT
                       │                                  ▼                  │  │    ▲      │
                       └─Superseded─► FAILED ◄──────── UPLOADING ◄─Outcome───┘  └────┘      │
                                        ▲              │  ▲  │      Known                   │
                                        └──Delivered───┘  │  └─Delivered─► DONE             │
                                                          └────────RetryDue─────────────────┘

What the states mean
    IDLE        before the first event of a stream
    PULLING     a manifest is here; whether it is ours, the answer to our ack will tell
    ACKED       it is ours, and waits for a slot
    PREP        it holds a slot: checks, workspace, inputs; at last `LaunchIntended`
    RUNNING     a process of ours exists, or did when we last looked; after `Ended`, its artifacts are collected
    UPLOADING   the outcome, good or bad, is being delivered
    RETRY_WAIT  waiting; `RetryDue` leads back to where it came from
    DONE        final: the coordinator has the success
    FAILED      final: the coordinator has the failure, or wants nothing of this attempt any more

What holds always
    * An acknowledged job leaves only through UPLOADING: exactly one outcome is delivered, or the coordinator
      itself said that it has moved on (`Superseded`).
    * `LaunchIntended` stands before every process. A run is launched at most once; another try is another
      run.
    * DONE and FAILED have no way out. A later attempt of the same job is another stream.
    * A fact that changes no state is an internal transition (dest None) and stands in this table all the
      same: what is not in the table is illegal.

What the table does not cover
    * When something is done: that is `states.due`, and slots are `states.admission`.
    * Time. No event depends on a clock; the times in events are for people and for timers.

Guards are names of `Guard`; they are asked of the job as it was before the event.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple

from transitions import Machine

__all__ = [
    "FINAL",
    "HOLDS_SLOT",
    "RULEBOOK",
    "TRANSITIONS",
    "Guard",
    "Rule",
    "State",
    "destinations",
    "machine",
]


class State(StrEnum):
    """The states of section 11 of the specification."""

    IDLE = "IDLE"
    PULLING = "PULLING"
    ACKED = "ACKED"
    PREP = "PREP"
    RUNNING = "RUNNING"
    UPLOADING = "UPLOADING"
    RETRY_WAIT = "RETRY_WAIT"
    DONE = "DONE"
    FAILED = "FAILED"


class Guard(StrEnum):
    """Conditions on a rule: properties of the job before the event."""

    SUCCEEDED = "succeeded"
    NOT_SUCCEEDED = "not_succeeded"
    BACK_TO_PREP = "back_to_prep"
    BACK_TO_UPLOADING = "back_to_uploading"


class Rule(NamedTuple):
    """One row: `event` leads from `source` to `dest` (None: stays), if `guard` holds."""

    event: str
    source: State
    dest: State | None
    guard: Guard | None = None


FINAL = frozenset({State.DONE, State.FAILED})
HOLDS_SLOT = frozenset({State.PREP, State.RUNNING})

_S = State
TRANSITIONS: tuple[Rule, ...] = (
    Rule("Offered", _S.IDLE, _S.PULLING),
    # PULLING
    Rule("Acked", _S.PULLING, _S.ACKED),
    Rule("Superseded", _S.PULLING, _S.FAILED),
    Rule("CancelRequested", _S.PULLING, None),
    # ACKED
    Rule("PrepStarted", _S.ACKED, _S.PREP),
    Rule("CancelRequested", _S.ACKED, None),
    Rule("AbandonRequested", _S.ACKED, None),
    # PREP
    Rule("LaunchIntended", _S.PREP, None),
    Rule("Launched", _S.PREP, _S.RUNNING),
    Rule("OutcomeKnown", _S.PREP, _S.UPLOADING),
    Rule("RetryScheduled", _S.PREP, _S.RETRY_WAIT),
    Rule("CancelRequested", _S.PREP, None),
    Rule("AbandonRequested", _S.PREP, None),
    # RUNNING
    Rule("Reattached", _S.RUNNING, None),
    Rule("LimitExceeded", _S.RUNNING, None),
    Rule("Ended", _S.RUNNING, None),
    Rule("OutcomeKnown", _S.RUNNING, _S.UPLOADING),
    Rule("RetryScheduled", _S.RUNNING, _S.RETRY_WAIT),
    Rule("CancelRequested", _S.RUNNING, None),
    Rule("AbandonRequested", _S.RUNNING, None),
    # UPLOADING
    Rule("Delivered", _S.UPLOADING, _S.DONE, Guard.SUCCEEDED),
    Rule("Delivered", _S.UPLOADING, _S.FAILED, Guard.NOT_SUCCEEDED),
    Rule("Superseded", _S.UPLOADING, _S.FAILED),
    Rule("OutcomeRevised", _S.UPLOADING, None, Guard.SUCCEEDED),
    Rule("RetryScheduled", _S.UPLOADING, _S.RETRY_WAIT),
    # RETRY_WAIT
    Rule("RetryDue", _S.RETRY_WAIT, _S.PREP, Guard.BACK_TO_PREP),
    Rule("RetryDue", _S.RETRY_WAIT, _S.UPLOADING, Guard.BACK_TO_UPLOADING),
    Rule("CancelRequested", _S.RETRY_WAIT, None, Guard.BACK_TO_PREP),
    Rule("AbandonRequested", _S.RETRY_WAIT, None),
)


def machine(model: Any = None) -> Machine:
    """Build the `transitions` machine of the table; with a model, triggers become its methods.

    The product asks the machine without a model (`RULEBOOK`); tests give it one, to see that the rulebook
    and the library's own interpretation of it never differ.
    """
    return Machine(
        model=model,
        states=[state.value for state in State],
        initial=State.IDLE.value,
        transitions=[
            {
                "trigger": rule.event,
                "source": rule.source.value,
                "dest": None if rule.dest is None else rule.dest.value,
                "conditions": [] if rule.guard is None else [rule.guard.value],
            }
            for rule in TRANSITIONS
        ],
        auto_transitions=False,
    )


RULEBOOK: Machine = machine()


def destinations() -> Mapping[tuple[State, str], tuple[tuple[State, Guard | None], ...]]:
    """Read the rulebook into a look-up: (state, event) to the possible (destination, guard), in order.

    A machine's trigger costs 8 µs and needs a model to change; replaying a journal looks up 100,000 of them a
    second. This reads the same machine once, so that there is still only one set of rules.
    """
    found: dict[tuple[State, str], tuple[tuple[State, Guard | None], ...]] = {}
    for name, event in RULEBOOK.events.items():
        for source, ways in event.transitions.items():
            found[State(source), name] = tuple(
                (
                    State(source if way.dest is None else way.dest),
                    Guard(way.conditions[0].func) if way.conditions else None,
                )
                for way in ways
            )
    return MappingProxyType(found)
