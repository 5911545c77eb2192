"""The top of the page: which job, how it ended, and the figures one asks for first."""

from collections.abc import Iterator

from fsm_miner.forensics.case import Case
from fsm_miner.forensics.page_charts import amount
from fsm_miner.forensics.page_html import Html, cut, el, join, text
from fsm_miner.forensics.page_life import Life, number_in, runs_of
from fsm_miner.forensics.page_time import short_span
from fsm_miner.forensics.telling import given_up
from fsm_miner.words import NS, counted
from states import events as e
from states.job import Job
from states.table import State

__all__ = ["header"]

_WORDS_MAX = 400
_TROUBLE_MAX = 12
_GOING_ON = {State.RUNNING: "Running", State.RETRY_WAIT: "Waiting to try again", State.PREP: "Being prepared"}
_BREAKS = (
    ("daemon", "time without a daemon", "times without a daemon"),
    ("reboot", "reboot", "reboots"),
    ("coordinator", "outage of the coordinator", "outages of the coordinator"),
)
_ORDINALS = {1: "first", 2: "second", 3: "third", 4: "fourth", 5: "fifth"}


def header(case: Case, life: Life | None) -> Html:
    """Return the top of the page."""
    job_id, attempt = case.story.key
    label, tone, sentence = _verdict(case, life)
    return el(
        "header",
        el("p", "What became of a job", class_="eyebrow"),
        el("h1", job_id, " ", el("span", f"attempt {attempt}")),
        el("p", el("b", label), el("span", sentence), class_=f"verdict v-{tone}"),
        *_alerts(case),
        *([el("dl", *_facts(case, life), class_="facts")] if life is not None else []),
    )


def _verdict(case: Case, life: Life | None) -> tuple[str, str, str]:
    """Return how it ended in a word, its tone, and in a sentence."""
    job = case.story.job
    if life is None:
        return "Unknown", "bad", "Not one record of it could be read."
    if not case.story.sound and job.state not in {State.DONE, State.FAILED}:
        return "Unclear", "bad", "Its records can't be followed to their end; what can be told is below."
    spent = short_span(life.marks[-1].at_ns - life.start_ns)
    way = _way(job, life)
    if job.superseded is not None:
        return (
            "Given up",
            "care",
            f"after {spent}: {cut(given_up(job.superseded), _WORDS_MAX)}{way}.",
        )
    if not job.outcome_known:
        label = _GOING_ON.get(job.state, "Waiting")
        return label, "care", f"It has not ended yet; the last record is {spent} after its offer{way}."
    what = _outcome(job)
    if job.state is State.DONE:
        return "Succeeded", "good", f"{what}, and was delivered {spent} after its offer{way}."
    if job.state is State.FAILED:
        return "Failed", "bad", f"{what}. The coordinator was told {spent} after the offer{way}."
    tone = "good" if job.failure is None else "bad"
    return (
        "Not delivered yet",
        "care" if tone == "good" else "bad",
        f"{what}, and the coordinator does not have it yet{way}.",
    )


def _outcome(job: Job) -> str:
    if job.failure is not None:
        return f"{job.failure.code}: {cut(str(job.failure.message).rstrip('. '), _WORDS_MAX)}"
    return (
        f"It ended well with {counted(len(job.artifacts), 'artifact')}" if job.artifacts else "It ended well"
    )


def _way(job: Job, life: Life) -> str:
    """Return what it came through, as the end of a sentence."""
    came = [
        f"{number} {one if number == 1 else many}"
        for kind, one, many in _BREAKS
        if (number := life.count(kind))
    ]
    run = f", in its {_ORDINALS.get(job.run, f'{job.run}th')} run" if job.run > 1 else ""
    return run + (f", through {_listed(came)}" if came else "")


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _alerts(case: Case) -> Iterator[Html]:
    story = case.story
    if story.broken is not None:
        yield el(
            "p",
            el("b", "The chain does not hold. "),
            f"Record {story.broken.seq}: {cut(story.broken.reason, _WORDS_MAX)}. From there on, nothing is certain.",
            class_="alert",
            role="alert",
        )
    if story.trouble:
        shown = [
            el("br"),
            *(join(text(cut(line, _WORDS_MAX)), el("br")) for line in story.trouble[:_TROUBLE_MAX]),
        ]
        more = len(story.trouble) - _TROUBLE_MAX
        yield el(
            "p",
            el("b", "Something is wrong with the records."),
            *shown,
            f"and {more} more" if more > 0 else None,
            class_="alert",
        )


def _facts(case: Case, life: Life) -> Iterator[Html]:
    story, job = case.story, case.story.job
    yield _fact("From first to last record", short_span(life.marks[-1].at_ns - life.start_ns))
    yield _fact("Runs", str(job.run), _ending(life))
    cpu_s, memory_mb = _used(life)
    yield _fact("Processor time", "unknown" if cpu_s is None else short_span(round(cpu_s * NS)))
    yield _fact("Most memory", "unknown" if memory_mb is None else amount(memory_mb, "MiB"))
    missing = sum(one.end_ns - one.start_ns for one in life.breaks)
    yield _fact(
        "Outages",
        short_span(missing) if life.breaks else "none",
        counted(len(life.breaks), "time") if life.breaks else "",
    )
    holds = "holds" if story.broken is None else f"broken at {story.broken.seq}"
    yield _fact("Chain", holds, counted(len(story.steps), "record"))


def _fact(name: str, value: str, more: str = "") -> Html:
    return el("div", el("dt", name), el("dd", value, el("small", more) if more else None))


def _ending(life: Life) -> str:
    """Return how the last run ended."""
    ends = [mark.step.event for mark in life.marks if isinstance(mark.step.event, e.Ended)]
    if not ends:
        return ""
    last = ends[-1]
    if last.exit_code is not None:
        return f"exit code {last.exit_code}"
    return f"signal {last.signal}" if last.signal is not None else cut(str(last.how).replace("_", " "), 40)


def _used(life: Life) -> tuple[float | None, float | None]:
    """Return the processor time of all runs and the most memory of any, from the records or the samples."""
    spent: dict[int, float] = {}
    memory: list[float] = [sample.memory_mb for sample in life.samples]
    for sample in life.samples:
        spent[sample.run] = max(spent.get(sample.run, 0.0), sample.cpu_s)
    for run, mark in runs_of(life):
        if isinstance(mark.step.event, e.Ended):
            usage = mark.step.event.usage
            spent[run] = max(spent.get(run, 0.0), number_in(usage, "cpu_s"))
            memory.append(number_in(usage, "max_rss_mb"))
    return sum(spent.values()) or None, max(memory, default=0.0) or None
