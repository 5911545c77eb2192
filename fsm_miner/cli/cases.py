"""Finding what a command is to speak of: a job in the journal or the archive, or a case in a bundle."""

import difflib
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from fsm_miner.cli.archive import find_in_archive
from fsm_miner.cli.options import settings, whole_number
from fsm_miner.cli.outcome import ExitCode, Refused
from fsm_miner.cli.reading import JournalFile
from fsm_miner.config import Config
from fsm_miner.forensics.bundle import BYTES_MAX, BundleBroken, parse_bundle
from fsm_miner.forensics.case import Case
from fsm_miner.forensics.collect import collect_case
from fsm_miner.forensics.story import Story, read_story
from journal.port import StreamKey

__all__ = [
    "AttemptOption",
    "BundleOption",
    "Found",
    "JobArgument",
    "find",
    "load_case",
    "nearest",
    "parse_job",
    "read_bundle",
]

STDIO = Path("-")
_NEAR_MAX = 5
_NAMES_MAX = 100_000

JobArgument = Annotated[
    str | None, typer.Argument(metavar="JOB", help="A job's id, or id/attempt.", show_default=False)
]
AttemptOption = Annotated[
    int | None,
    typer.Option(
        "--attempt",
        metavar="N",
        parser=whole_number,
        help="Which attempt, from 1 on. [default: the newest]",
        show_default=False,
    ),
]
BundleOption = Annotated[
    Path | None,
    typer.Option(
        "--bundle",
        metavar="FILE",
        help="Read a file of `fsm-miner export` instead of the journal; - is standard input.",
        show_default=False,
        readable=False,  # whoever opens it says more than that it can't be read
    ),
]


@dataclass(frozen=True, slots=True)
class Found:
    """A story, where it was read from, and the job's other attempts there."""

    story: Story
    source: Path
    others: tuple[int, ...]


def load_case(
    job: str | None, attempt: int | None, bundle: Path | None, config: Path | None, journal: Path | None
) -> Case:
    """Return the case of a job from the journal, its archive and its folder, or the case in `bundle`.

    What is wrong with the database itself is in the story's `trouble`.

    Raises:
        Refused: there is no such job, no such file, or the words don't go together.

    """
    if bundle is not None:
        if (job, attempt, journal) != (None, None, None):
            raise Refused(
                ExitCode.USAGE,
                "--bundle holds one attempt of one job: leave out JOB, --attempt and --journal",
            )
        return read_bundle(bundle)
    if job is None:
        raise Refused(ExitCode.USAGE, "name a JOB (`fsm-miner jobs` lists those there are), or a --bundle")
    path, known, notes = _place(config, journal)
    job_id, attempt = parse_job(job, attempt)
    with JournalFile(path) as file:
        found = find(file, job_id, attempt)
        trouble, schema = file.trouble, file.schema
    story = found.story
    if trouble is not None:
        story = story.but(story.broken, (*story.trouble, trouble))
    case = collect_case(
        story,
        str(found.source),
        others=found.others,
        root=None if known is None else known.workspace.root,
        versions={} if schema is None else {"schema": str(schema)},
        node_id=None if known is None else known.node_id,
    )
    return replace(case, notes=(*notes, *case.notes))


def _place(config: Path | None, journal: Path | None) -> tuple[Path, Config | None, tuple[str, ...]]:
    """Return the journal's path, and the configuration, which a named journal does without."""
    if journal is None:
        known = settings(config)
        return known.journal.path, known, ()
    path = journal.absolute()
    if config is None:
        return path, None, ()
    try:
        return path, settings(config), ()
    except Refused as error:
        return path, None, (f"the configuration can't be used: {str(error).splitlines()[0]}",)


def read_bundle(path: Path) -> Case:
    """Return the case in a file of `fsm-miner export`; `-` is standard input.

    Raises:
        Refused: it can't be read, or is no bundle.

    """
    name = "standard input" if path == STDIO else str(path)
    try:
        if path == STDIO:
            data = sys.stdin.buffer.read(BYTES_MAX + 1)
        else:
            with path.open("rb") as file:
                data = file.read(BYTES_MAX + 1)
        return parse_bundle(data, name)
    except BundleBroken as error:
        raise Refused(ExitCode.NO, str(error)) from None
    except PermissionError as error:
        raise Refused(ExitCode.HOST, f"{name}: {error.strerror}") from None
    except OSError as error:
        raise Refused(ExitCode.NO, f"{name}: {error.strerror}") from None


def parse_job(text: str, attempt: int | None) -> tuple[str, int | None]:
    """Read `j-1` or `j-1/2`.

    Raises:
        Refused: it names one attempt, and `attempt` another.

    """
    job_id, slash, number = text.rpartition("/")
    if not slash or not number.isascii() or not number.isdigit():
        return text, attempt
    if attempt is not None and attempt != int(number):
        raise Refused(
            ExitCode.USAGE, f"{text} is attempt {int(number)}, --attempt says {attempt}: use one of them"
        )
    return job_id, int(number)


def find(file: JournalFile, job_id: str, attempt: int | None) -> Found:
    """Find the job in the journal, else in the archive.

    Raises:
        Refused: it is in neither; the message names ids that are near.

    """
    attempts = file.attempts(job_id)
    wanted = attempt if attempt is not None else max(attempts, default=None)
    if wanted is not None and wanted in attempts:
        key = StreamKey(job_id, wanted)
        others = tuple(one for one in attempts if one != wanted)
        return Found(read_story(key, file.stream(key)), file.path, others)
    sealed = [one for one in file.sealed() if one.key.job_id == job_id]
    archived = find_in_archive(file.archive, job_id, attempt, [one.export for one in sealed])
    if archived is not None:
        key, path, records = archived
        return Found(read_story(key, records), path, tuple(attempts))
    if attempts:
        listed = ", ".join(map(str, attempts))
        raise Refused(ExitCode.NO, f"{job_id} has no attempt {attempt} here; it has {listed}")
    near = nearest(job_id, file.names())
    hint = f"; near it: {', '.join(near)}" if near else "; `fsm-miner jobs` lists those there are"
    raise Refused(ExitCode.NO, f"there is no job {job_id} in {file.path} or its archive{hint}")


def nearest(job_id: str, names: Iterable[str]) -> list[str]:
    """Return ids that somebody who typed `job_id` may have meant."""
    known = list(names)[-_NAMES_MAX:]
    inside = [name for name in known if job_id in name or (name and name in job_id)]
    close = difflib.get_close_matches(job_id, known[-5000:], n=_NEAR_MAX)
    return list(dict.fromkeys([*close, *sorted(inside, key=len)]))[:_NEAR_MAX]
