"""The outbox's turns: order, bound, patience, and that nobody who leaves the queue blocks it. Virtual time."""

import asyncio
from contextlib import AsyncExitStack
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsm_miner.outbox import Outbox, since_ns
from states.events import Ended
from states.job import NEW
from states.retry import Backoff
from tests.simulation.virtual_time import VirtualClock, run

BACKOFF = Backoff(5.0, 120.0)


class _Dice:
    def roll(self):
        return 1.0 - 2**-53  # the longest wait


def job(age, tries=1):
    return NEW._replace(job_id=f"j-{age}", offered_ns=age, deliveries=tries)


def outbox(max_concurrent=2):
    return Outbox(max_concurrent, backoff=BACKOFF, clock=VirtualClock(), dice=_Dice())


async def settle():
    for _ in range(20):
        await asyncio.sleep(0)


def test_since_when_an_outcome_waits():
    ended = Ended("exited", 0, None, 70, {})
    assert since_ns(job(50)) == 50
    assert since_ns(job(50)._replace(ended=ended)) == 70


def test_no_more_at_once_than_asked_for_and_the_oldest_next():
    async def main():
        box, order, under_way, most = outbox(2), [], 0, 0

        async def deliver(age):
            nonlocal under_way, most
            async with box.turn(job(age)):
                order.append(age)
                under_way += 1
                most = max(most, under_way)
                await asyncio.sleep(1.0)
                under_way -= 1

        # 9 and 8 are there first; of those that wait then, the oldest is next.
        await asyncio.gather(*(deliver(age) for age in (9, 8, 3, 7, 1, 5)))
        assert order == [9, 8, 1, 3, 5, 7]
        assert most == 2

    run(main())


def test_one_at_a_time_and_patiently_while_there_is_no_answer():
    async def main():
        box, clock, tried = outbox(4), VirtualClock(), []

        async def deliver(age):
            async with box.turn(job(age)):
                tried.append((round(clock.now_s()), age))
                box.unanswered("connection refused", None)

        await asyncio.gather(*(deliver(age) for age in range(6)))
        times, ages = zip(*tried, strict=True)
        assert ages == (0, 1, 2, 3, 4, 5)
        # The first four were under way before it was known: from then on each waits twice as long as the last.
        waits = [after - before for before, after in pairwise(times)]
        assert waits == [5, 10, 20, 40, 80]
        assert box.trouble == "connection refused"

    run(main())


def test_an_answer_opens_it_again_at_once():
    async def main():
        box, clock = outbox(3), VirtualClock()
        box.unanswered("503", 3600.0)
        waiting = [asyncio.create_task(enter(box, age)) for age in (1, 2, 3)]
        await settle()
        assert not any(task.done() for task in waiting)
        box.answered()
        stacks = await asyncio.gather(*waiting)
        assert clock.now_s() == 0.0
        assert box.trouble is None
        for stack in stacks:
            await stack.aclose()

    run(main())


async def enter(box, age):
    stack = AsyncExitStack()
    await stack.enter_async_context(box.turn(job(age)))
    return stack


def test_what_the_coordinator_asks_for_is_waited_for():
    async def main():
        box, clock = outbox(), VirtualClock()
        box.unanswered("429", 60.0)
        await (await enter(box, 1)).aclose()
        assert clock.now_s() == pytest.approx(60.0)
        box.unanswered("429", 3600.0)  # perhaps for that job alone
        await (await enter(box, 1)).aclose()
        assert clock.now_s() == pytest.approx(60.0 + BACKOFF.max_s)

    run(main())


def test_what_was_never_tried_asks_at_once_and_goes_before_what_was():
    async def main():
        box, clock, order = outbox(1), VirtualClock(), []
        box.unanswered("500 for another", None)

        async def deliver(age, tries):
            async with box.turn(job(age, tries)):
                order.append((age, tries))
                box.unanswered("500", None)

        await asyncio.gather(*(deliver(*one) for one in ((1, 5), (2, 2), (9, 0), (8, 0))))
        assert order == [(9, 0), (8, 0), (2, 2), (1, 5)]  # 9 was there first
        assert clock.now_s() > 0

    run(main())


def test_outcomes_that_are_never_taken_hold_up_nobody():
    """Two that fail for ever, and good ones that come now and then: each good one goes at its first try."""

    async def main():
        box, clock, waited = outbox(1), VirtualClock(), []

        async def poisoned(age):
            for tries in range(1, 40):
                async with box.turn(job(age, tries)):
                    await asyncio.sleep(0.1)
                    box.unanswered("500", None)
                await asyncio.sleep(min(5.0 * 2**tries, 120.0))

        async def good(age):
            await asyncio.sleep(age)
            came_s = clock.now_s()
            async with box.turn(job(age, 0)):
                box.answered()
            waited.append(clock.now_s() - came_s)

        ending = [asyncio.create_task(poisoned(age)) for age in (0, 1)]
        await asyncio.gather(*(good(age) for age in range(50, 1000, 50)))
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        assert max(waited) <= 0.2

    run(main())


@pytest.mark.parametrize("where", ["in the queue", "in its turn"])
def test_who_is_cancelled_makes_room(where):
    async def main():
        box = outbox(1)
        first = await enter(box, 1)
        second = asyncio.create_task(enter(box, 2))
        third = asyncio.create_task(enter(box, 3))
        await settle()
        if where == "in the queue":
            second.cancel()
            await settle()
            await first.aclose()
        else:
            await first.aclose()
            stack = await second
            await stack.aclose()
        await (await third).aclose()

    run(main())


def test_a_defect_in_a_delivery_gives_its_turn_back():
    async def main():
        box = outbox(1)
        with pytest.raises(ZeroDivisionError):
            async with box.turn(job(1)):
                raise ZeroDivisionError
        await (await enter(box, 2)).aclose()

    run(main())


STEPS = st.lists(
    st.tuples(
        st.integers(0, 50),  # age
        st.floats(0.0, 20.0),  # arrives at
        st.floats(0.0, 5.0),  # takes
        st.sampled_from(["answered", "unanswered", "unauthorized", "fails", "cancelled"]),
    ),
    max_size=25,
)


@given(STEPS, st.integers(1, 4))
def test_everybody_gets_a_turn_and_the_bound_holds(steps, max_concurrent):
    async def main():
        box, under_way, served = outbox(max_concurrent), 0, []

        async def deliver(number, age, takes_s, how):
            nonlocal under_way
            try:
                async with box.turn(job(age)):
                    under_way += 1
                    assert under_way <= max_concurrent
                    try:
                        await asyncio.sleep(takes_s)
                        if how == "answered":
                            box.answered()
                        elif how == "unanswered":
                            box.unanswered("no answer", None)
                        elif how == "fails":
                            raise ValueError(how)
                    finally:
                        under_way -= 1
            except ValueError:
                pass
            served.append(number)

        async def later(number, age, arrives_s, takes_s, how):
            await asyncio.sleep(arrives_s)
            task = asyncio.create_task(deliver(number, age, takes_s, how))
            if how == "cancelled":
                await asyncio.sleep(takes_s / 2)
                task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        await asyncio.gather(*(later(number, *step) for number, step in enumerate(steps)))
        expected = {number for number, step in enumerate(steps) if step[3] != "cancelled"}
        assert expected <= set(served)
        assert under_way == 0

    run(main())
