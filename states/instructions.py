"""What is to be done, in the imperative. An instruction comes from a job's state alone (`states.due`)."""

from dataclasses import dataclass

__all__ = [
    "AskAck",
    "AwaitSlot",
    "Collect",
    "Deliver",
    "Instruction",
    "Launch",
    "Prepare",
    "Stop",
    "Wait",
    "Watch",
]


@dataclass(frozen=True, slots=True)
class AskAck:
    """Ack the job, again and again until there is an answer."""


@dataclass(frozen=True, slots=True)
class AwaitSlot:
    """Nothing to do before `states.admission` grants a slot."""


@dataclass(frozen=True, slots=True)
class Prepare:
    """Check the job, make its workspace, fetch its inputs."""

    run: int


@dataclass(frozen=True, slots=True)
class Launch:
    """Start the run's process, unless a look shows that it was started before.

    With `only_look`, start nothing: the job is to be stopped anyway.
    """

    run: int
    only_look: bool


@dataclass(frozen=True, slots=True)
class Watch:
    """Wait for the process's end, watch its limits, report its progress."""

    run: int


@dataclass(frozen=True, slots=True)
class Stop:
    """End the process: ask, wait the grace period, kill; then report its end."""

    run: int


@dataclass(frozen=True, slots=True)
class Collect:
    """Check and hash the declared artifacts."""

    run: int


@dataclass(frozen=True, slots=True)
class Deliver:
    """Hand the outcome to the coordinator. `number` counts the tries, so that each is a new instruction."""

    number: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait until `due_ns` (UTC), but never longer than `delay_s`, whatever the clock does."""

    due_ns: int
    delay_s: float


Instruction = AskAck | AwaitSlot | Prepare | Launch | Watch | Stop | Collect | Deliver | Wait
