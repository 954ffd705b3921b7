"""Workers: take a key, run a pass, and decide by the kind of its failure when to try again."""

from __future__ import annotations

import asyncio
import logging
import time

from phasewatt.controllers.keys import Key
from phasewatt.controllers.metrics import Metrics
from phasewatt.controllers.queue import QueueClosedError, WorkQueue
from phasewatt.controllers.reconciler import Reconciler, Verdict
from phasewatt.kube.errors import ApiError, ConflictError

log = logging.getLogger(__name__)


class Workers:
    """`count` workers on one queue. They end when the queue is closed, each after the pass in hand."""

    def __init__(self, queue: WorkQueue[Key], reconciler: Reconciler, metrics: Metrics, count: int) -> None:
        self._queue = queue
        self._reconciler = reconciler
        self._metrics = metrics
        self._count = count
        self.alive = 0

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(self._count):
                group.create_task(self._work(), name=f"worker {number}")

    def stop(self) -> None:
        self._queue.close(self._count)

    async def _work(self) -> None:
        self.alive += 1
        try:
            while True:
                await self._serve(await self._queue.get())
        except QueueClosedError:
            pass
        finally:
            self.alive -= 1

    async def _serve(self, key: Key) -> None:
        started = time.perf_counter()
        try:
            outcome = await self._attempt(key)
        finally:
            self._queue.done(key)
        self._metrics.passes.labels(outcome).inc()
        self._metrics.seconds.observe(time.perf_counter() - started)

    async def _attempt(self, key: Key) -> str:
        try:
            result = await self._reconciler.reconcile(key)
        except ConflictError as error:
            self._queue.add_after_failure(key)
            log.debug("state changed under the pass, looking again: %s", error, extra=_of(key))
            return "conflict"
        except ApiError as error:
            delay = self._queue.add_after_failure(key, at_least=error.retry_after or 0.0)
            log.warning("pass failed, again in %.1f s: %s", delay, error, extra=_of(key))
            return "retry"
        except Exception as error:
            self._queue.add_after_failure(key)
            log.exception("pass failed unexpectedly", extra=_of(key))
            await self._report(key, error)
            return "error"
        self._queue.forgive(key)
        if result.verdict is Verdict.GONE:
            self._metrics.forget(key)
        if result.requeue_after is not None:
            self._queue.add_after(key, result.requeue_after)
        return str(result.verdict)

    async def _report(self, key: Key, error: Exception) -> None:
        try:
            await self._reconciler.report_failure(key, error)
        except Exception:
            log.warning("could not report the failure in the status", exc_info=True, extra=_of(key))


def _of(key: Key) -> dict[str, str]:
    """Fields of a log line about one object."""
    return {"namespace": key.namespace, "object": key.name}
