"""One suite for every backend: whatever passes it may stand where a Journal is asked for."""

import asyncio
import json
from itertools import count

import pytest

from journal import (
    GENESIS,
    AppendConflict,
    Entry,
    JournalUnavailable,
    MemoryJournal,
    SqliteJournal,
    StreamKey,
    Upcasters,
    VersionUnknown,
    verify_chain,
)

KEY = StreamKey("j-1", 1)


def entry(event="Launched", version=1, **data):
    return Entry(event, version, "PREP", "RUNNING", data)


class JournalContract:
    """The promises of `journal.port.Journal`."""

    def make(self, folder, upcasters=None):
        raise NotImplementedError

    def play(self, folder, script, upcasters=None):
        """Run `script(journal)` and close the journal."""

        async def main():
            journal = self.make(folder, upcasters)
            try:
                return await script(journal)
            finally:
                await journal.close()

        return asyncio.run(main())

    def test_returns_what_it_then_reads(self, tmp_path):
        async def script(journal):
            first = await journal.append(KEY, 0, [entry(pid=1), entry("Exited", code=0)])
            second = await journal.append(KEY, 2, [entry("Delivered")])
            return [*first, *second], journal.read(KEY)

        appended, read = self.play(tmp_path, script)
        assert read == appended
        assert [r.seq for r in read] == [1, 2, 3]
        assert [r.event for r in read] == ["Launched", "Exited", "Delivered"]
        assert read[0].prev == GENESIS
        assert (read[0].boot_id, read[0].source, read[0].dest) == ("boot-a", "PREP", "RUNNING")
        assert read[0].data_json == '{"pid":1}'
        assert verify_chain(read)[KEY] == (3, read[2].hash)

    def test_times_never_go_back_in_a_stream(self, tmp_path):
        async def script(journal):
            for seq in range(5):
                await journal.append(KEY, seq, [entry()])
            return [r.at_ns for r in journal.read(KEY)]

        times = self.play(tmp_path, script)
        assert times == sorted(times)

    def test_attempts_are_streams_of_their_own(self, tmp_path):
        async def script(journal):
            other = StreamKey("j-1", 2)
            await journal.append(KEY, 0, [entry()])
            await journal.append(other, 0, [entry(), entry()])
            await journal.append(KEY, 1, [entry()])
            return journal.streams(), journal.read(KEY), journal.read(other)

        streams, one, two = self.play(tmp_path, script)
        assert streams == [KEY, StreamKey("j-1", 2)]
        assert (len(one), len(two)) == (2, 2)

    def test_an_unknown_stream_is_empty(self, tmp_path):
        async def script(journal):
            return journal.read(KEY), journal.streams(), list(journal.records())

        assert self.play(tmp_path, script) == ([], [], [])

    @pytest.mark.parametrize("believed", [0, 1, 3])
    def test_a_wrong_length_is_a_conflict_and_keeps_nothing(self, tmp_path, believed):
        async def script(journal):
            await journal.append(KEY, 0, [entry(), entry()])
            with pytest.raises(AppendConflict, match="j-1/1 has 2 records"):
                await journal.append(KEY, believed, [entry("Wrong")])
            await journal.append(KEY, 2, [entry("Right")])
            return [r.event for r in journal.read(KEY)]

        assert self.play(tmp_path, script) == ["Launched", "Launched", "Right"]

    def test_of_two_racing_appends_one_wins(self, tmp_path):
        async def script(journal):
            races = [journal.append(KEY, 0, [entry(racer=i)]) for i in range(10)]
            outcomes = await asyncio.gather(*races, return_exceptions=True)
            return outcomes, journal.read(KEY)

        outcomes, read = self.play(tmp_path, script)
        assert sum(isinstance(o, AppendConflict) for o in outcomes) == 9
        assert len(read) == 1

    def test_a_conflict_hurts_no_neighbour(self, tmp_path):
        async def script(journal):
            appends = [journal.append(StreamKey("j", i), i % 2, [entry()]) for i in range(20)]
            outcomes = await asyncio.gather(*appends, return_exceptions=True)
            return [type(o) for o in outcomes], len(journal.streams())

        assert self.play(tmp_path, script) == ([tuple, AppendConflict] * 10, 10)

    @pytest.mark.parametrize(
        "bad",
        [
            entry("two\nlines"),
            entry("nul\0"),
            entry("\ud800"),
            entry(""),
            entry("x" * 513),
            entry(version=0),
            entry(number=float("nan")),
            entry(number=float("inf")),
            entry(thing=object()),
            Entry("Launched", 1, "PREP\n", "RUNNING", {}),
            Entry("Launched", 1, "PREP", "RUN\rNING", {}),
            entry(big="x" * (4 * 1024 * 1024)),
            entry(version=2),
        ],
    )
    def test_what_cannot_be_stored_is_refused_whole(self, tmp_path, bad):
        async def script(journal):
            with pytest.raises(ValueError, match=r"\w"):
                await journal.append(KEY, 0, [entry(), bad])
            return journal.read(KEY)

        assert self.play(tmp_path, script) == []

    @pytest.mark.parametrize(
        "key", [StreamKey("a\nb", 1), StreamKey("", 1), StreamKey("j", -1), StreamKey("j", 2**63)]
    )
    def test_a_bad_key_is_refused(self, tmp_path, key):
        async def script(journal):
            with pytest.raises(ValueError, match=r"job_id|attempt"):
                await journal.append(key, 0, [entry()])
            return journal.streams()

        assert self.play(tmp_path, script) == []

    def test_no_entries_are_refused(self, tmp_path):
        async def script(journal):
            with pytest.raises(ValueError, match="at least one"):
                await journal.append(KEY, 0, [])
            return journal.streams()

        assert self.play(tmp_path, script) == []

    def test_too_deep_data_is_refused(self, tmp_path):
        deep = []
        for _ in range(100_000):
            deep = [deep]

        async def script(journal):
            with pytest.raises(ValueError, match="not JSON"):
                await journal.append(KEY, 0, [entry(deep=deep)])
            return journal.read(KEY)

        assert self.play(tmp_path, script) == []

    def test_hostile_text_in_data_survives(self, tmp_path):
        text = "\ud800 \0 \n \u2028 \U0001f600 é '; DROP TABLE records; --"

        async def script(journal):
            await journal.append(KEY, 0, [entry(text=text)])
            return journal.read(KEY)

        (record,) = self.play(tmp_path, script)
        assert json.loads(record.data_json) == {"text": text}

    def test_data_changed_after_the_call_changes_nothing(self, tmp_path):
        data = {"list": [1]}

        async def script(journal):
            task = asyncio.ensure_future(journal.append(KEY, 0, [Entry("E", 1, "A", "B", data)]))
            await asyncio.sleep(0)
            data["list"].append(2)
            return (await task)[0].data_json

        assert self.play(tmp_path, script) == '{"list":[1]}'

    def test_old_versions_are_read_as_new_ones(self, tmp_path):
        upcasters = Upcasters(
            {
                ("Launched", 1): lambda data: {"process": data["pid"]},
                ("Launched", 2): lambda data: {**data, "cgroup": None},
            }
        )

        async def script(journal):
            (stored,) = await journal.append(KEY, 0, [entry(pid=7)])
            return stored, journal.read(KEY)[0], list(journal.records())

        stored, read, records = self.play(tmp_path, script, upcasters)
        assert (stored.version, stored.data_json) == (1, '{"pid":7}')
        assert (read.version, read.data_json) == (3, '{"cgroup":null,"process":7}')
        assert (read.hash, read.prev) == (stored.hash, stored.prev)
        assert records == [read]

    def test_nothing_is_appended_after_close(self, tmp_path):
        async def script(journal):
            await journal.append(KEY, 0, [entry()])
            await journal.close()
            await journal.close()
            with pytest.raises(JournalUnavailable, match="closed"):
                await journal.append(KEY, 1, [entry()])
            return True

        assert self.play(tmp_path, script)

    def test_a_probe_leaves_no_trace_and_fails_once_closed(self, tmp_path):
        async def script(journal):
            await journal.append(KEY, 0, [entry()])
            before = journal.read(KEY)
            await journal.probe()
            assert journal.read(KEY) == before
            await journal.append(KEY, 1, [entry()])
            await journal.close()
            with pytest.raises(JournalUnavailable, match="closed"):
                await journal.probe()
            return True

        assert self.play(tmp_path, script)


class TestMemoryJournal(JournalContract):
    def make(self, folder, upcasters=None):
        return MemoryJournal(boot_id="boot-a", now_ns=count(1).__next__, upcasters=upcasters)


class TestSqliteJournal(JournalContract):
    def make(self, folder, upcasters=None):
        return SqliteJournal(folder / "j.db", boot_id="boot-a", now_ns=count(1).__next__, upcasters=upcasters)

    def test_it_is_all_there_the_next_time(self, tmp_path):
        async def script(journal):
            return await journal.append(KEY, len(journal.read(KEY)), [entry()])

        self.play(tmp_path, script)
        self.play(tmp_path, script)

        async def look(journal):
            return journal.read(KEY), journal.verify()

        read, heads = self.play(tmp_path, look)
        assert [r.seq for r in read] == [1, 2]
        assert heads == {KEY: (2, read[1].hash)}

    def test_a_later_version_in_the_file_is_named(self, tmp_path):
        async def write(journal):
            await journal.append(KEY, 0, [entry(version=2)])

        self.play(tmp_path, write, Upcasters({("Launched", 1): dict}))

        async def read(journal):
            with pytest.raises(VersionUnknown, match="j-1/1: record 1: Launched has version 2"):
                journal.read(KEY)
            return True

        assert self.play(tmp_path, read)
