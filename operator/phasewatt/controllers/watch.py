"""Kopf only wakes: every watch event goes into the cache, and wakes the key of its object if it brought news.

No handler keeps state in the cluster: no annotations, no finalizers, no peering.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import kopf

from phasewatt.controllers.cache import Cache, Change
from phasewatt.controllers.inventory import SliceMemory
from phasewatt.controllers.keys import MANAGED, Key
from phasewatt.controllers.metrics import Metrics
from phasewatt.controllers.queue import WorkQueue
from phasewatt.kube.auth import Credentials
from phasewatt.kube.port import OBJECT, POD, SLICE, Manifest, Resource

SETTLE = 0.25
"""Seconds that news of progress (pods, statuses) may gather before one pass looks at them all."""

INVENTORY_SETTLE = 2.0
"""Seconds for a change of the GPU inventory, which concerns every object."""


class Waker:
    """Turns watch events into work."""

    def __init__(self, cache: Cache, slices: SliceMemory, queue: WorkQueue[Key], metrics: Metrics) -> None:
        self._cache = cache
        self._slices = slices
        self._queue = queue
        self._metrics = metrics
        self.last_event = 0.0
        """Loop time of the last event, in seconds."""

    def see(self, obj: Manifest, *, deleted: bool) -> None:
        """Take in one watch event of an object, a child or a pod."""
        self.last_event = asyncio.get_running_loop().time()
        seen = self._cache.observe(obj, deleted=deleted)
        change = seen[1] if seen else Change.NONE
        self._metrics.watch_events.labels(obj["kind"], change.name.lower()).inc()
        if seen is None or change is Change.NONE:
            return
        if change is Change.SHAPE and obj["kind"] != POD.kind:
            self._queue.add(seen[0])
        else:
            self._queue.add_after(seen[0], SETTLE)

    def see_slice(self, piece: Manifest, *, deleted: bool) -> None:
        """Take in one watch event of a ResourceSlice."""
        self.last_event = asyncio.get_running_loop().time()
        if self._slices.observe(piece, deleted=deleted):
            for key in self._cache.all_keys():
                self._queue.add_after(key, INVENTORY_SETTLE)


class _NoDiffs(kopf.DiffBaseStorage):
    """Kopf computes a diff of every object on every event; we need none, and it would be half of our CPU time."""

    def build(self, **_: Any) -> Any:
        return {}

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        """Nothing is kept in the cluster."""


class _NoProgress(kopf.ProgressStorage):
    """No handler of ours has progress to keep."""

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        """Nothing is kept in the cluster."""

    def purge(self, **_: Any) -> None:
        """Nothing is kept in the cluster."""

    def touch(self, **_: Any) -> None:
        """Nothing is kept in the cluster."""

    def clear(self, *, essence: Any) -> Any:
        return essence


def build_registry(
    waker: Waker, children: tuple[Resource, ...], *, slices: bool, login: Callable[[], Awaitable[Credentials]]
) -> kopf.OperatorRegistry:
    """Handlers for the objects, these kinds of children, pods and, where they may be read, ResourceSlices."""
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    async def _login(**_: Any) -> kopf.ConnectionInfo:
        c = await login()
        return kopf.ConnectionInfo(
            server=c.server,
            ca_path=c.ca_path,
            ca_data=c.ca_data,
            insecure=c.insecure,
            certificate_path=c.certificate_path,
            private_key_path=c.private_key_path,
            scheme=c.scheme,
            token=c.token,
        )

    def on(resource: Resource, take: Callable[..., None]) -> None:
        async def handle(event: Any, **_: Any) -> None:
            take(dict(event["object"]), deleted=event["type"] == "DELETED")

        kopf.on.event(resource.group, resource.version, resource.plural, registry=registry, id=resource.plural)(handle)

    for resource in (OBJECT, *children, POD):
        on(resource, waker.see)
    if slices:
        on(SLICE, waker.see_slice)
    return registry


def build_settings(children: tuple[Resource, ...]) -> kopf.OperatorSettings:
    """Kopf as a mere watcher: label selectors at the server, small pages, nothing stored, no peering, no scanning."""
    settings = kopf.OperatorSettings()
    settings.persistence.diffbase_storage = _NoDiffs()
    settings.persistence.progress_storage = _NoProgress()
    settings.peering.standalone = True
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.watching.chunk_size = 250
    settings.watching.reconnect_backoff = 0.1
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 5
    # A server that restarts is back in seconds; what lasts longer starts the watcher anew (see `main`).
    settings.networking.error_backoffs = (0.2, 0.5, 1, 1, 2, 2, 2, 2)
    for resource in (*children, POD):
        settings.watching.label_selectors[f"{resource.plural}.{resource.version}.{resource.group}".rstrip(".")] = (
            MANAGED
        )
    return settings
