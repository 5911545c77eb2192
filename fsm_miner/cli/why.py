"""`fsm-miner why JOB`: how a job came to its end, in sentences."""

from collections.abc import Sequence
from typing import Any

from fsm_miner.cli.cases import AttemptOption, BundleOption, JobArgument, load_case
from fsm_miner.cli.options import ConfigOption, JournalOption, JsonOption
from fsm_miner.cli.outcome import ExitCode
from fsm_miner.cli.output import Cell, Screen
from fsm_miner.forensics.case import Case
from fsm_miner.forensics.why import Sentence, why

HELP = """Tell in plain sentences how a job came to its end, or why it is where it is.

The answer first, then the story: who wanted what, what went wrong, what was done about it. The numbers in
brackets are the records behind each sentence: `fsm-miner replay JOB` shows them, and `--at N` the job as it was
then. Of an unfinished job, what it waits for comes last. Damage is told before anything else.

A daemon that dies leaves no record; what is told of it is read from what the next one found.
"""
EXAMPLES = """\
  fsm-miner why j-1                       its newest attempt
  fsm-miner why j-1/1                     its first attempt, the same as --attempt 1
  fsm-miner why --bundle j-1-1.case.json  a file of `fsm-miner export`, on any machine
  fsm-miner why j-1 --json | jq -r '.sentences[] | select(.topic == "verdict") | .text'"""
EXIT_CODES = """\
  0  told, and every record holds
  1  there is no such job; or a record does not hold (what can be told is told); or the bundle is none
  2  wrong usage or configuration
  3  the journal or the bundle can't be read by this user or this release"""

_STYLES = {"damage": "bold red", "verdict": "bold", "now": "cyan"}


def command(
    job: JobArgument = None,
    attempt: AttemptOption = None,
    bundle: BundleOption = None,
    config: ConfigOption = None,
    journal: JournalOption = None,
    as_json: JsonOption = False,
) -> int:
    """Tell how a job came to its end; return the exit code."""
    case = load_case(job, attempt, bundle, config, journal)
    told = why(case)
    screen = Screen()
    if as_json:
        screen.json(as_data(case, told))
    else:
        show(screen, told)
    return ExitCode.OK if case.story.sound else ExitCode.NO


def as_data(case: Case, told: Sequence[Sentence]) -> dict[str, Any]:
    """Return the sentences as JSON."""
    return {
        "job_id": case.story.key.job_id,
        "attempt": case.story.key.attempt,
        "read_from": case.source,
        "state": str(case.story.job.state),
        "sentences": [{"topic": one.topic, "text": one.text, "records": list(one.records)} for one in told],
    }


def show(screen: Screen, told: Sequence[Sentence]) -> None:
    """Write the sentences, a paragraph for each topic."""
    topic: str | None = None
    paragraph: list[str] = []
    for one in [*told, None]:
        if paragraph and (one is None or one.topic != topic):
            screen.fold(0, Cell(" ".join(paragraph), _STYLES.get(topic or "", "")))
            paragraph = []
            if one is not None:
                screen.say("")
        if one is not None:
            topic = one.topic
            paragraph.append(one.marked)
