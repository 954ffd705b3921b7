"""A work queue of keys: each is worked on by one worker at a time, however often it is added.

The semantics are those of client-go's workqueue: a key that is added while it is worked on runs once more afterwards; a
key that waits is not queued twice. A delay never postpones a run that is due earlier.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

BACKOFF_BASE = 0.1
BACKOFF_CAP = 60.0
"""Seconds. Full jitter: the delay is uniform in [0, min(cap, base * 2^failures)].

Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
"""

K = TypeVar("K", bound=Hashable)


class QueueClosedError(Exception):
    """The queue hands out no more work."""


class WorkQueue(Generic[K]):
    """Not thread-safe: one event loop owns it. Times are those of the loop, in seconds."""

    def __init__(
        self,
        uniform: Callable[[float, float], float] = random.uniform,
        observe_wait: Callable[[float], object] = lambda seconds: None,
    ) -> None:
        """`observe_wait` is told the seconds that each key waited for a worker."""
        self._uniform = uniform
        self._observe_wait = observe_wait
        self._line: asyncio.Queue[K | None] = asyncio.Queue()
        self._waiting: dict[K, float] = {}
        """When each key of the line was added; insertion order is the order of the line."""
        self._working: dict[K, float] = {}
        self._again: set[K] = set()
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._failures: dict[K, int] = {}
        self._closed = False

    def add(self, key: K) -> None:
        """Run the key as soon as a worker is free."""
        if (timer := self._timers.pop(key, None)) is not None:
            timer.cancel()
        if key in self._working:
            self._again.add(key)
        elif key not in self._waiting and not self._closed:
            self._waiting[key] = self._now()
            self._line.put_nowait(key)

    def add_after(self, key: K, delay: float) -> None:
        """Run the key in `delay` seconds, or earlier where an earlier run is due."""
        if key in self._waiting or self._closed:
            return
        due = self._now() + delay
        timer = self._timers.get(key)
        if timer is not None and timer.when() <= due:
            return
        if timer is not None:
            timer.cancel()
        self._timers[key] = asyncio.get_running_loop().call_at(due, self.add, key)

    def add_after_failure(self, key: K, at_least: float = 0.0) -> float:
        """Run the key after its backoff, which grows until `forgive`; returns the delay in seconds."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        # The exponent is capped as well: 2^failures of a key that fails for days would overflow a float.
        ceiling = min(BACKOFF_CAP, BACKOFF_BASE * 2.0 ** min(failures, 16))
        delay = max(at_least, self._uniform(0.0, ceiling))
        self.add_after(key, delay)
        return delay

    def forgive(self, key: K) -> None:
        """The key succeeded: its next failure starts with the shortest backoff."""
        self._failures.pop(key, None)

    def failures(self, key: K) -> int:
        return self._failures.get(key, 0)

    async def get(self) -> K:
        """Wait for a key and take it; call `done` when finished. Raises QueueClosedError after `close`."""
        key = None if self._closed else await self._line.get()
        if key is None or self._closed:
            raise QueueClosedError
        self._working[key] = now = self._now()
        self._observe_wait(now - self._waiting.pop(key))
        return key

    def done(self, key: K) -> None:
        del self._working[key]
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    def close(self, workers: int) -> None:
        """Hand out no more work and wake the workers that wait for it; work in hand goes on."""
        self._closed = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        for _ in range(workers):
            self._line.put_nowait(None)

    @property
    def depth(self) -> int:
        """Keys that wait for a worker; keys with a delay do not count."""
        return len(self._waiting)

    def oldest(self) -> float:
        """Seconds since the oldest key that is not finished was added or taken, whichever is the older."""
        now = self._now()
        waiting = next(iter(self._waiting.values()), now)
        return now - min([waiting, *self._working.values()])

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
