"""The running operator: cache, queue, workers, watcher, resync, scraper and HTTP server under one task group."""

from __future__ import annotations

import asyncio
import functools
import logging
import random
import signal
import socket
from collections.abc import Awaitable, Callable

import kopf

from phasewatt.controllers.cache import CHILDREN, Cache
from phasewatt.controllers.health import Vitals, unhealthy, unready
from phasewatt.controllers.inventory import SliceMemory
from phasewatt.controllers.keys import Key
from phasewatt.controllers.metrics import Metrics
from phasewatt.controllers.options import Options
from phasewatt.controllers.queue import WorkQueue
from phasewatt.controllers.reconciler import Decide, Reconciler
from phasewatt.controllers.resync import Resyncer
from phasewatt.controllers.status_writer import StatusWriter
from phasewatt.controllers.traffic import TrafficScraper
from phasewatt.controllers.watch import Waker, build_registry, build_settings
from phasewatt.controllers.web import build_app, serving
from phasewatt.controllers.workers import Workers
from phasewatt.kube.auth import Credentials
from phasewatt.kube.errors import DeniedError, NotFoundError, RetryableError
from phasewatt.kube.port import CLAIM, OBJECT, SLICE, Api, Resource

SETTLING_RESYNC = 15.0
"""Seconds from a start of the watcher to a resync: what is deleted between our LIST and its own shows in neither."""

STEADY = 60.0
"""Seconds that a watcher has to run for its end not to count as a failure to start."""

GRACE = 4.0
"""Seconds for the passes in hand to end after SIGTERM."""

Login = Callable[[], Awaitable[Credentials]]

log = logging.getLogger(__name__)


class Operator:
    """Everything between the API server and `decide`; `login` gives the watcher its way in.

    Create it inside the event loop. Raises SystemExit, with a sentence, from `run` where this cluster cannot be served.
    """

    def __init__(self, api: Api, options: Options, decide: Decide, metrics: Metrics, login: Login) -> None:
        self._api = api
        self._options = options
        self._decide = decide
        self._metrics = metrics
        self._login = login
        self._stop = asyncio.Event()
        self._watch_failures = 0

    async def run(self) -> None:
        """Work until SIGTERM or SIGINT, then finish the passes in hand."""
        self._catch_signals()
        children = await self._served_children()
        slices = SliceMemory() if await self._can_read_slices() else None
        options, metrics = self._options, self._metrics
        queue: WorkQueue[Key] = WorkQueue(observe_wait=metrics.waited.observe)
        metrics.watch_queue(lambda: queue.depth, queue.oldest)
        cache = Cache(self._api, options.namespaces, children)
        resyncer = Resyncer(self._api, cache, slices, queue, options.resync)
        scraper = TrafficScraper(cache, metrics, queue.add, options.scrape_interval)
        status = StatusWriter(self._api, cache, metrics, socket.gethostname())
        memory = slices or SliceMemory()
        reconciler = Reconciler(
            self._api, cache, self._decide, options.settings, status, scraper, lambda: memory.inventory
        )
        workers = Workers(queue, reconciler, metrics, options.workers)
        waker = Waker(cache, memory, queue, metrics)
        watch = functools.partial(self._watch, waker, resyncer, children, slices=slices is not None)
        vitals = functools.partial(self._vitals, workers, queue, resyncer, waker)
        app = build_app(metrics.registry, lambda: unhealthy(*vitals()), lambda: unready(vitals()[0]))
        async with serving(app, options.http_port):
            await self._supervise(workers, resyncer, scraper, watch)

    async def _supervise(
        self, workers: Workers, resyncer: Resyncer, scraper: TrafficScraper, watch: Callable[[], Awaitable[None]]
    ) -> None:
        """Run all parts; whichever of them fails ends the process, so that it is started anew."""
        async with asyncio.TaskGroup() as group:
            background = [group.create_task(resyncer.run(), name="resync")]
            await _first(resyncer.synced.wait(), self._stop.wait())
            working = group.create_task(workers.run(), name="workers")
            if self._options.scrape_interval:
                background.append(group.create_task(scraper.run(), name="scraper"))
            background.append(group.create_task(self._keep_watching(watch), name="watcher"))
            await self._stop.wait()
            log.info("stopping: finishing the passes in hand")
            workers.stop()
            for task in background:
                task.cancel()
            await asyncio.wait([working], timeout=GRACE)
            working.cancel()
            # Kopf leaves its watch generators to the loop, which complains about them while it closes.
            logging.getLogger("asyncio").setLevel(logging.CRITICAL)

    async def _watch(self, waker: Waker, resyncer: Resyncer, children: tuple[Resource, ...], *, slices: bool) -> None:
        """Watch until the watcher gives up."""
        ours = asyncio.all_tasks()
        resyncer.soon(SETTLING_RESYNC)
        tasks = await kopf.spawn_tasks(
            registry=build_registry(waker, children, slices=slices, login=self._login),
            settings=build_settings(children),
            clusterwide=not self._options.namespaces,
            namespaces=self._options.namespaces,
            # Kopf's own default asks for the user's name, which a numeric user of a container does not have.
            identity=socket.gethostname(),  # type: ignore[arg-type]
        )
        # Kopf takes the signals over, but it is not the one that knows how to stop.
        self._catch_signals()
        await kopf.run_tasks(tasks, ignored=ours)

    async def _keep_watching(self, watch: Callable[[], Awaitable[None]]) -> None:
        """Start the watcher anew whenever it ends: an API server that is away for long must not end the operator."""
        clock = asyncio.get_running_loop().time
        while True:
            started = clock()
            try:
                await watch()
                log.warning("the watcher ended, starting it anew")
            except Exception:
                log.exception("the watcher failed, starting it anew")
            self._watch_failures = self._watch_failures + 1 if clock() - started < STEADY else 0
            await asyncio.sleep(random.uniform(0.5, 5.0))  # noqa: S311

    def _vitals(
        self, workers: Workers, queue: WorkQueue[Key], resyncer: Resyncer, waker: Waker
    ) -> tuple[Vitals, float]:
        """Signs of life and the time of asking, in seconds of the loop."""
        signs = None if resyncer.last is None else max(resyncer.last, waker.last_event)
        vitals = Vitals(
            workers=self._options.workers,
            alive=workers.alive,
            oldest=queue.oldest(),
            resync=self._options.resync,
            last_sign=signs,
            watch_failures=self._watch_failures,
        )
        return vitals, asyncio.get_running_loop().time()

    def _catch_signals(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._stop.set)

    async def _served_children(self) -> tuple[Resource, ...]:
        """Kinds of children that this API server has. Raises SystemExit where our own kind is missing or denied."""
        try:
            await self._probe(OBJECT)
        except NotFoundError:
            raise SystemExit(f"{OBJECT.plural}.{OBJECT.group} is not served: install the CRDs of the chart.") from None
        except DeniedError as error:
            raise SystemExit(f"grant the operator its role: {error}") from None
        try:
            await self._probe(CLAIM)
        except NotFoundError:
            log.info("%s is not served: GPUs come from device plugins only", CLAIM.api_version)
            return tuple(resource for resource in CHILDREN if resource != CLAIM)
        return CHILDREN

    async def _can_read_slices(self) -> bool:
        try:
            await self._probe(SLICE)
        except (NotFoundError, DeniedError) as error:
            log.warning("GPU inventory is unknown: %s", error)
            return False
        return True

    async def _probe(self, resource: Resource) -> None:
        """List one object, as often as it takes until the API server answers."""
        namespace = self._options.namespaces[0] if self._options.namespaces and resource.namespaced else None
        while True:
            try:
                async for _ in self._api.list(resource, namespace):
                    return
                return
            except RetryableError as error:
                log.warning("waiting for the API server: %s", error)
                await asyncio.sleep(random.uniform(0.2, 2.0))  # noqa: S311


async def _first(*waits: Awaitable[object]) -> None:
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
