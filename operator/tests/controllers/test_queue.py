"""The work queue: once per key, never twice at once, and delays that only ever shorten."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from loop_harness import VirtualClockLoop
from phasewatt.controllers.queue import BACKOFF_CAP, QueueClosedError, WorkQueue


def virtually(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        runner.run(test())


def test_a_key_added_twice_runs_once() -> None:
    async def story() -> None:
        queue: WorkQueue[str] = WorkQueue()
        queue.add("a")
        queue.add("a")
        assert queue.depth == 1
        assert await queue.get() == "a"
        queue.done("a")
        assert queue.depth == 0

    virtually(story)


def test_a_key_added_while_it_runs_runs_again_afterwards_not_at_once() -> None:
    async def story() -> None:
        queue: WorkQueue[str] = WorkQueue()
        queue.add("a")
        await queue.get()
        queue.add("a")
        assert queue.depth == 0
        queue.done("a")
        assert queue.depth == 1

    virtually(story)


@pytest.mark.parametrize(("first", "second", "runs_at"), [(5.0, 1.0, 1.0), (1.0, 5.0, 1.0)])
def test_the_earlier_of_two_delays_counts(first: float, second: float, runs_at: float) -> None:
    async def story() -> None:
        queue: WorkQueue[str] = WorkQueue()
        queue.add_after("a", first)
        queue.add_after("a", second)
        await queue.get()
        assert asyncio.get_running_loop().time() == runs_at
        queue.done("a")
        await asyncio.sleep(10)
        assert queue.depth == 0

    virtually(story)


def test_work_now_cancels_the_delay() -> None:
    async def story() -> None:
        queue: WorkQueue[str] = WorkQueue()
        queue.add_after("a", 5.0)
        queue.add("a")
        await queue.get()
        queue.done("a")
        await asyncio.sleep(10)
        assert queue.depth == 0

    virtually(story)


def test_backoff_doubles_up_to_its_cap_and_starts_over_once_forgiven() -> None:
    async def story() -> None:
        queue: WorkQueue[str] = WorkQueue(uniform=lambda low, high: high)

        async def fail() -> float:
            delay = queue.add_after_failure("a")
            queue.done(await queue.get())
            return delay

        delays = [await fail() for _ in range(40)]
        assert delays[:3] == [0.2, 0.4, 0.8]
        assert delays[-1] == BACKOFF_CAP
        queue.forgive("a")
        assert queue.add_after_failure("a") == 0.2

    virtually(story)


def test_the_server_may_ask_for_a_longer_wait() -> None:
    async def story() -> None:
        queue: WorkQueue[str] = WorkQueue(uniform=lambda low, high: low)
        assert queue.add_after_failure("a", at_least=7.0) == 7.0

    virtually(story)


def test_closing_wakes_waiting_workers_and_hands_out_nothing_more() -> None:
    async def story() -> None:
        queue: WorkQueue[str] = WorkQueue()
        waiting = [asyncio.create_task(queue.get()) for _ in range(2)]
        await asyncio.sleep(0)
        queue.close(workers=2)
        assert [type(r) for r in await asyncio.gather(*waiting, return_exceptions=True)] == [QueueClosedError] * 2
        queue.add("a")
        with pytest.raises(QueueClosedError):
            await queue.get()

    virtually(story)


def test_age_is_that_of_the_oldest_unfinished_key() -> None:
    async def story() -> None:
        waits: list[float] = []
        queue: WorkQueue[str] = WorkQueue(observe_wait=waits.append)
        assert queue.oldest() == 0.0
        queue.add("a")
        await asyncio.sleep(3)
        queue.add("b")
        await asyncio.sleep(1)
        assert queue.oldest() == 4.0
        await queue.get()
        assert waits == [4.0]
        assert queue.oldest() == 1.0
        await asyncio.sleep(2)
        queue.done("a")
        assert queue.oldest() == 3.0

    virtually(story)
