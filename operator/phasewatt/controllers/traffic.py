"""Scrapes decode engines for the proof that KV cache moves, spread evenly over the scrape interval."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import aiohttp

from phasewatt.api.v1alpha1 import Role
from phasewatt.controllers.cache import Cache
from phasewatt.controllers.counters import Counters, TrafficWindow, gist, read_counters
from phasewatt.controllers.keys import Key
from phasewatt.controllers.metrics import Metrics
from phasewatt.kube.port import Manifest
from phasewatt.plan import names
from phasewatt.plan.types import KVTraffic

DECODE = Role.DECODE.value
PORT_NAME = "http"
AT_ONCE = 16
TIMEOUT = aiohttp.ClientTimeout(total=3.0, sock_connect=1.0)
RESPONSE_LIMIT = 4 * 2**20
"""Bytes; an engine's metrics are some 100 KiB."""
SKIP_LIMIT = 8
"""Rounds that an engine which does not answer is left out at most."""

log = logging.getLogger(__name__)


class Target(NamedTuple):
    """One engine container of one pod."""

    key: Key
    pod: str
    uid: str
    container: str
    url: str


@dataclass(slots=True)
class _Engine:
    window: TrafficWindow = field(default_factory=TrafficWindow)
    failures: int = 0
    skip: int = 0


class TrafficScraper:
    """Knows the KV traffic of every decode engine; `wake` is called with a key when a verdict may change."""

    def __init__(self, cache: Cache, metrics: Metrics, wake: Callable[[Key], object], interval: float) -> None:
        """`interval` is in seconds between two scrapes of one engine."""
        self._cache = cache
        self._metrics = metrics
        self._wake = wake
        self._interval = interval
        self._engines: dict[Key, dict[tuple[str, str, str], _Engine]] = {}

    def of(self, key: Key) -> Mapping[str, KVTraffic]:
        """Traffic by pod name, of the pods that were scraped."""
        traffic: dict[str, KVTraffic] = {}
        for (pod, _, _), engine in self._engines.get(key, {}).items():
            traffic[pod] = _merged(traffic.get(pod), engine.window.traffic())
        return traffic

    def forget(self, key: Key) -> None:
        self._engines.pop(key, None)

    async def run(self) -> None:
        """Scrape for ever."""
        async with aiohttp.ClientSession(timeout=TIMEOUT, auto_decompress=True) as session:
            while True:
                started = asyncio.get_running_loop().time()
                await self._round(session)
                spent = asyncio.get_running_loop().time() - started
                await asyncio.sleep(max(0.0, self._interval * random.uniform(0.9, 1.1) - spent))  # noqa: S311

    async def _round(self, session: aiohttp.ClientSession) -> None:
        targets = [target for key in self._cache.all_keys() for target in self._targets(key)]
        random.shuffle(targets)
        free = asyncio.Semaphore(AT_ONCE)
        pause = 0.9 * self._interval / max(1, len(targets))
        async with asyncio.TaskGroup() as group:
            for target in targets:
                await free.acquire()
                task = group.create_task(self._scrape(session, target))
                task.add_done_callback(lambda _: free.release())
                await asyncio.sleep(pause)

    def _targets(self, key: Key) -> list[Target]:
        """Engines to scrape now; engines of pods that are gone are forgotten on the way."""
        alive = [target for pod in self._cache.pods(key) for target in targets_of(key, pod)]
        known = self._engines.get(key, {})
        kept = {_id(t): known.get(_id(t), _Engine()) for t in alive}
        if kept:
            self._engines[key] = kept
        else:
            self._engines.pop(key, None)
        return [t for t in alive if not _skips(kept[_id(t)])]

    async def _scrape(self, session: aiohttp.ClientSession, target: Target) -> None:
        try:
            async with session.get(target.url) as response:
                response.raise_for_status()
                text = await read_text(response.content)
            reading = read_counters(text)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            self._metrics.scrapes.labels("failed").inc()
            self._note_failure(target)
            log.debug("could not scrape %s: %s", target.url, error)
            return
        self._metrics.scrapes.labels("ok").inc()
        self.take(target, reading, asyncio.get_running_loop().time())

    def take(self, target: Target, reading: Counters, now: float) -> None:
        """Take in one reading, at `now` in seconds."""
        engine = self._engines.get(target.key, {}).get(_id(target))
        if engine is None:
            return
        engine.failures = 0
        before = gist(engine.window.traffic())
        self._export(target.key, engine.window.add(now, reading))
        if gist(engine.window.traffic()) != before:
            self._wake(target.key)

    def _note_failure(self, target: Target) -> None:
        engine = self._engines.get(target.key, {}).get(_id(target))
        if engine is not None:
            engine.failures += 1
            engine.skip = min(SKIP_LIMIT, 2 ** min(engine.failures, 10) - 2)

    def _export(self, key: Key, growth: Counters) -> None:
        tokens = {"transferred": growth.transferred, "recomputed": growth.recomputed, "cached": growth.cached}
        for outcome, count in tokens.items():
            self._metrics.kv_tokens.labels(key.namespace, key.name, outcome).inc(count)
        self._metrics.kv_bytes.labels(key.namespace, key.name).inc(growth.bytes)


def targets_of(key: Key, pod: Manifest) -> Iterator[Target]:
    """The decode engines of a pod that is Ready: a decode pod's, or the decode containers of a shared pod."""
    status, metadata = pod.get("status", {}), pod["metadata"]
    conditions = {c["type"]: c["status"] for c in status.get("conditions", [])}
    if conditions.get("Ready") != "True" or not status.get("podIP") or "deletionTimestamp" in metadata:
        return
    decodes = metadata.get("labels", {}).get(names.ROLE) == DECODE
    for container in pod["spec"]["containers"]:
        if not decodes and not container["name"].startswith(DECODE):
            continue
        for port in container.get("ports", []):
            if port.get("name", "").startswith(PORT_NAME):
                address = f"[{status['podIP']}]" if ":" in status["podIP"] else status["podIP"]
                url = f"http://{address}:{port['containerPort']}/metrics"
                yield Target(key, metadata["name"], metadata["uid"], container["name"], url)


async def read_text(content: aiohttp.StreamReader) -> str:
    """The whole body. A part of it would look like counters that started anew.

    Raises ValueError where it is longer than RESPONSE_LIMIT.
    """
    body = bytearray()
    async for chunk in content.iter_chunked(2**16):
        body += chunk
        if len(body) > RESPONSE_LIMIT:
            raise ValueError(f"more than {RESPONSE_LIMIT} bytes of metrics")
    return body.decode(errors="replace")


def _id(target: Target) -> tuple[str, str, str]:
    return target.pod, target.uid, target.container


def _skips(engine: _Engine) -> bool:
    if engine.skip <= 0:
        return False
    engine.skip -= 1
    return True


def _merged(a: KVTraffic | None, b: KVTraffic) -> KVTraffic:
    if a is None:
        return b
    return KVTraffic(
        requests=a.requests + b.requests,
        transferred=a.transferred + b.transferred,
        recomputed=a.recomputed + b.recomputed,
        cached=a.cached + b.cached,
        failed_transfers=a.failed_transfers + b.failed_transfers,
        bytes=a.bytes + b.bytes,
        seconds=a.seconds + b.seconds,
        block_size=b.block_size,
    )
