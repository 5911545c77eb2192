"""Hot reload of the allowlist: a changed file counts from the next judgement on, without a restart.

Two things see a change, and one function acts on it:

    before each judgement ──► refresh() ◄── run(): file events, and a look every `poll_s`

`refresh` reads the files (a few, of a few KiB) and compares digests, so what is judged never depends on a file
event arriving. `run` is there so that the log and `/healthz` tell of a change, or of a mistake in it, when it
is made and not when the next job comes.

A file that does not parse keeps the rule it last gave, and the log says why; the other files change all the same.
A file that is removed takes its rule with it. To replace one, write it beside and rename it over: a file that is
removed first is, for that moment, a rule revoked.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

import watchfiles
from watchfiles._rust_notify import WatchfilesRustInternalError

from fsm_miner.log_port import Log
from runners.allowlist import Allowlist, Loaded, Source, load
from runners.allowlist_folder import folders

__all__ = ["POLL_S", "AllowlistWatch", "Log"]

POLL_S = 1.0
"""How often `run` looks even if no file event came, in seconds."""

_DEBOUNCE_MS = 200
_STEP_MS = 20

Identities = dict[str, tuple[int, int] | None]


class AllowlistWatch:
    """Keeps the rules of some allowlist files current. For one event loop and its thread."""

    def __init__(
        self,
        entries: Sequence[str],
        log: Log,
        on_change: Callable[[Loaded], object] | None = None,
        poll_s: float = POLL_S,
    ) -> None:
        """Read the files for the first time.

        Args:
            entries: files, folders and globs, as `runners.allowlist.load` takes them.
            log: gets a sentence for each change and for each new problem.
            on_change: called with the new state after each change, of the rules or of the problems.
            poll_s: how often `run` looks without being told, in seconds.

        """
        self._entries = tuple(entries)
        self._log = log
        self.on_change = on_change
        """Called with the new state after each change."""
        self._poll_s = poll_s
        self._loaded = Loaded(Allowlist(), (), ())
        self.refresh()

    @property
    def current(self) -> Allowlist:
        """The rules as of the last look."""
        return self._loaded.allowlist

    @property
    def loaded(self) -> Loaded:
        """The rules, the problems, and the files with their digests, as of the last look."""
        return self._loaded

    def refresh(self) -> Allowlist:
        """Look at the files now; return the rules that are in force. Call it before each judgement.

        Never raises for what stands in the files or is missing. Parses only what has changed.
        """
        before, after = self._loaded, load(self._entries, self._loaded)
        if after == before:
            return before.allowlist
        self._loaded = after
        self._tell(before, after)
        if self.on_change is not None:
            self.on_change(after)
        return after.allowlist

    async def run(self) -> None:
        """Look whenever something happens in the files' folders, and every `poll_s`, until cancelled.

        A folder may be missing, come back, or be replaced as a whole: the watch moves to what is there now.
        """
        polling = False
        while True:
            watched = self._identities()
            try:
                await self._watch(watched)
                polling = False
            except (OSError, WatchfilesRustInternalError) as error:
                # A folder went between the look and the watch, or the kernel has no inotify watches left.
                if not polling and self._identities() == watched:
                    polling = True
                    self._log.warning(
                        "allowlist_watch_unavailable",
                        problem=f"no file events ({error}); looking every {self._poll_s:g} s instead",
                    )
                self.refresh()
                await asyncio.sleep(self._poll_s)

    async def _watch(self, watched: Identities) -> None:
        """Follow the events of one set of folders until one of the folders is another one."""
        present = [folder for folder, identity in watched.items() if identity is not None]
        async with aclosing(self._ticks(present)) as ticks:
            async for _ in ticks:
                self.refresh()
                if self._identities() != watched:
                    return

    async def _ticks(self, present: list[str]) -> AsyncGenerator[object]:
        """Yield whenever it is time to look.

        The first tick comes after the watch has begun, so nothing falls between the two; what changed before
        it began is seen at that tick, `poll_s` later at most.
        """
        if not present:
            yield None
            while True:
                await asyncio.sleep(self._poll_s)
                yield None
        stop = asyncio.Event()
        events = watchfiles.awatch(  # pyright: ignore[reportUnknownMemberType] - names trio, which is absent
            *present,
            watch_filter=None,  # an editor's temporary names are as good a hint as any
            debounce=_DEBOUNCE_MS,
            step=_STEP_MS,
            stop_event=stop,
            rust_timeout=round(self._poll_s * 1000),
            yield_on_timeout=True,
            recursive=False,
        )
        try:
            async with aclosing(events):
                async for changes in events:
                    yield changes
        finally:
            stop.set()

    def _identities(self) -> Identities:
        """Return which folder is behind each name now; None where there is none."""
        return {folder: _identity(folder) for folder in folders(self._entries)}

    def _tell(self, before: Loaded, after: Loaded) -> None:
        old = {source.path: source for source in before.sources}
        new = {source.path: source for source in after.sources}
        for path, source in new.items():
            if source != old.get(path):
                self._tell_file(source)
        for path, source in old.items():
            if path not in new:
                command = source.rule.name if source.rule is not None else None
                self._log.warning("allowlist_file_removed", file=path, command=command)
        of_files = {problem for source in after.sources for problem in source.problems}
        for problem in after.problems:
            if problem not in of_files and problem not in before.problems:
                self._log.warning("allowlist_problem", problem=problem)
        self._log.info("allowlist_changed", commands=sorted(rule.name for rule in after.allowlist.rules))

    def _tell_file(self, source: Source) -> None:
        if not source.problems:
            assert source.rule is not None
            self._log.info(
                "allowlist_file_loaded", file=source.path, command=source.rule.name, sha256=source.digest
            )
            return
        effect = (
            "it allows nothing until it is corrected"
            if source.rule is None
            else f"its last good rule, for {source.rule.name}, stays in force"
        )
        for problem in source.problems:
            self._log.warning("allowlist_file_refused", file=source.path, problem=problem, effect=effect)


def _identity(folder: str) -> tuple[int, int] | None:
    try:
        found = os.stat(folder)  # noqa: PTH116 - one system call, no object
    except OSError:
        return None
    return found.st_dev, found.st_ino
