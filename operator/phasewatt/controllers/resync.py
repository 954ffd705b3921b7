"""Puts the cache right by LISTs: at start-up, when the watcher started anew, and every few minutes."""

from __future__ import annotations

import asyncio
import logging
import random

from phasewatt.controllers.cache import Cache
from phasewatt.controllers.inventory import SliceMemory
from phasewatt.controllers.keys import Key
from phasewatt.controllers.queue import WorkQueue
from phasewatt.kube.errors import ApiError
from phasewatt.kube.port import SLICE, Api

SPREAD = 0.1
"""Share of the period over which the passes of a periodic resync are spread."""

RETRY = 5.0
"""Longest wait in seconds after a LIST failed."""

log = logging.getLogger(__name__)


class Resyncer:
    """`slices` is None where ResourceSlices cannot be read; `period` is in seconds."""

    def __init__(
        self, api: Api, cache: Cache, slices: SliceMemory | None, queue: WorkQueue[Key], period: float
    ) -> None:
        self._api = api
        self._cache = cache
        self._slices = slices
        self._queue = queue
        self._period = period
        self._due: float | None = None
        self._moved = asyncio.Event()
        self.synced = asyncio.Event()
        """Set once the first LIST of everything is in the cache."""
        self.last: float | None = None
        """Loop time of the last complete resync, in seconds."""

    def soon(self, delay: float) -> None:
        """Resync in `delay` seconds at the latest."""
        due = asyncio.get_running_loop().time() + delay
        if self._due is not None and due < self._due:
            self._due = due
            self._moved.set()

    async def run(self) -> None:
        """Resync for ever."""
        while True:
            first = self.last is None
            try:
                await self._resync()
            except ApiError as error:
                delay = random.uniform(0.2, RETRY)  # noqa: S311
                log.warning("could not list objects, again in %.1f s: %s", delay, error)
                await asyncio.sleep(delay)
                continue
            self._enqueue(spread=0.0 if first else SPREAD * self._period)
            self.synced.set()
            await self._until_due()

    async def _resync(self) -> None:
        changed = await self._cache.resync()
        if self._slices is not None:
            self._slices.replace([piece async for piece in self._api.list(SLICE, None)])
        for key in changed:
            self._queue.add(key)
        self.last = asyncio.get_running_loop().time()
        log.info("listed %d objects, %d were not as remembered", len(self._cache.all_keys()), len(changed))

    def _enqueue(self, spread: float) -> None:
        for key in self._cache.all_keys():
            self._queue.add_after(key, random.uniform(0.0, spread))  # noqa: S311

    async def _until_due(self) -> None:
        loop = asyncio.get_running_loop()
        self._due = loop.time() + self._period * random.uniform(0.9, 1.1)  # noqa: S311
        while (wait := self._due - loop.time()) > 0:
            self._moved.clear()
            try:
                await asyncio.wait_for(self._moved.wait(), wait)
            except TimeoutError:
                return
