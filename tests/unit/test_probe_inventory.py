"""The inventory's promise: an answer in bounded time, whatever a source does."""

import asyncio
import threading

import pytest

from fsm_miner.probe import Gpu, GpuReading, ThreadedInventory, read_sources

ONE = GpuReading((Gpu("GPU-1", "nvidia", "card", 1024, 512, 0),), ("a fan is loud",))
TWO = GpuReading((Gpu("GPU-2", "amd", "card", 1024, 1024, 0),))


class Scripted:
    """A source that gives `answers` one after the other; an Event among them is waited for first."""

    def __init__(self, *answers) -> None:
        self.answers = list(answers)
        self.reads = 0

    def read(self) -> GpuReading:
        self.reads += 1
        answer = self.answers.pop(0)
        if isinstance(answer, threading.Event):
            answer.wait()
            return self.read()
        if isinstance(answer, Exception):
            raise answer
        return answer


class Gated:
    """A source that gives `answer` whenever its gate is open."""

    def __init__(self, answer: GpuReading) -> None:
        self.answer = answer
        self.gate = threading.Event()
        self.gate.set()

    def read(self) -> GpuReading:
        self.gate.wait()
        return self.answer


async def until_fresh(inventory):
    while (reading := await inventory.read()).stale:
        pass
    return reading


def test_sources_add_up():
    assert read_sources([Scripted(ONE), Scripted(TWO)]) == GpuReading(ONE.gpus + TWO.gpus, ONE.problems)


def test_a_source_that_hangs_costs_the_deadline_and_then_the_last_answer_stands():
    async def scenario():
        source = Gated(ONE)
        inventory = ThreadedInventory([source], deadline_s=0.02)
        assert (await until_fresh(inventory)) == ONE
        source.gate.clear()
        source.answer = TWO
        for _ in range(3):
            stale = await inventory.read()
            assert (stale.gpus, stale.stale) == (ONE.gpus, True)
            assert stale.problems[0] == "a fan is loud"
            assert "has not answered within 0.02 s" in stale.problems[1]
        source.gate.set()
        assert await until_fresh(inventory) == TWO

    asyncio.run(scenario())


def test_a_first_reading_that_hangs_knows_nothing_and_says_so():
    async def scenario():
        answers = threading.Event()
        inventory = ThreadedInventory([Scripted(answers, ONE)], deadline_s=0.02)
        reading = await inventory.read()
        answers.set()
        return reading

    reading = asyncio.run(scenario())
    assert (reading.gpus, reading.stale, len(reading.problems)) == ((), True, 1)


def test_callers_at_the_same_time_share_one_reading():
    source = Scripted(ONE)

    async def scenario():
        inventory = ThreadedInventory([source], deadline_s=60)
        return await asyncio.gather(*(inventory.read() for _ in range(50)))

    assert asyncio.run(scenario()) == [ONE] * 50
    assert source.reads == 1


def test_a_cancelled_caller_spoils_nothing_for_the_others():
    async def scenario():
        answers = threading.Event()
        inventory = ThreadedInventory([Scripted(answers, ONE)], deadline_s=60)
        first = asyncio.create_task(inventory.read())
        second = asyncio.create_task(inventory.read())
        await asyncio.sleep(0)
        first.cancel()
        answers.set()
        assert await second == ONE
        assert first.cancelled()

    asyncio.run(scenario())


def test_a_defect_is_raised_and_the_next_reading_is_a_new_one():
    async def scenario():
        inventory = ThreadedInventory([Scripted(ZeroDivisionError("defect"), ONE)], deadline_s=60)
        with pytest.raises(ZeroDivisionError):
            await inventory.read()
        assert await inventory.read() == ONE

    asyncio.run(scenario())
