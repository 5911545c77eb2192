import asyncio
import threading

import pytest

from fsm_miner.offload import offload, ready_threads


def test_what_the_function_returns_or_raises_comes_back():
    assert asyncio.run(offload(lambda: 1)) == 1
    with pytest.raises(KeyError):
        asyncio.run(offload(lambda: {}["x"]))


def test_a_cancelled_caller_waits_for_the_thread_however_often_it_is_asked():
    async def go() -> None:
        began, may_end, stop = threading.Event(), threading.Event(), threading.Event()
        ended = False

        def work() -> None:
            nonlocal ended
            began.set()
            assert may_end.wait(30)
            ended = True
            raise ValueError("nobody hears this")

        task = asyncio.create_task(offload(work, stop=stop))
        assert await asyncio.to_thread(began.wait, 30)
        for _ in range(3):
            task.cancel()
            done, _ = await asyncio.wait([task], timeout=0)
            assert not done
        await asyncio.to_thread(stop.wait, 30)
        assert not ended
        may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended

    asyncio.run(go())


def test_ready_threads_are_all_there_before_there_is_work():
    before = set(threading.enumerate())
    executor = ready_threads(5)
    try:
        made = set(threading.enumerate()) - before
        assert len(made) == 5
        assert executor.submit(threading.current_thread).result(30) in made
        assert set(threading.enumerate()) - before == made
    finally:
        executor.shutdown()
