"""The real loop (queue, workers, cache, status writer) on the fake API, with a virtual clock and a tiny `decide`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from phasewatt.api.v1alpha1 import API_VERSION, KIND
from phasewatt.controllers.cache import Cache
from phasewatt.controllers.inventory import SliceMemory
from phasewatt.controllers.keys import Key
from phasewatt.controllers.metrics import Metrics
from phasewatt.controllers.queue import WorkQueue
from phasewatt.controllers.reconciler import Decide, Reconciler, Result
from phasewatt.controllers.status_writer import StatusWriter
from phasewatt.controllers.watch import Waker
from phasewatt.controllers.workers import Workers
from phasewatt.kube.fake import FakeApi
from phasewatt.kube.port import Manifest, Resource
from phasewatt.plan.types import KVTraffic, Observed, Outcome, Ref, Settings

NAMESPACE = "team"
SETTINGS = Settings(engine_image="engine:1", router_image="router:1")


class VirtualClockLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer whenever nothing else is to do."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0

    def time(self) -> float:
        return self._now

    def _run_once(self) -> None:
        timers = [timer.when() for timer in self._scheduled if not timer.cancelled()]
        if not self._ready and timers:
            self._now = max(self._now, min(timers))
        super()._run_once()


def labels(name: str) -> dict[str, str]:
    return {"app.kubernetes.io/managed-by": "phasewatt", "phasewatt.io/object": name}


def inference(name: str, **spec: Any) -> Manifest:
    """An object as a user creates it."""
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": spec,
    }


def child(obj: Manifest, kind: str, name: str, spec: Manifest) -> Manifest:
    """A child as a manifest builder makes it."""
    metadata = obj["metadata"]
    owner = {"apiVersion": API_VERSION, "kind": KIND, "name": metadata["name"], "uid": metadata["uid"]}
    return {
        "apiVersion": "apps/v1" if kind == "Deployment" else "v1",
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": metadata["namespace"],
            "labels": labels(metadata["name"]),
            "ownerReferences": [{**owner, "controller": True, "blockOwnerDeletion": False}],
        },
        "spec": spec,
    }


def wanted_children(obj: Manifest) -> list[Manifest]:
    """One Service, and `spec.engines` Deployments of `spec.image`."""
    name, spec = obj["metadata"]["name"], obj["spec"]
    service = child(obj, "Service", name, {"ports": [{"port": 8000}]})
    engines = [
        child(obj, "Deployment", f"{name}-{i}", {"replicas": 1, "template": {"image": spec["image"]}})
        for i in range(spec["engines"])
    ]
    return [service, *engines]


def simple_decide(observed: Observed, settings: Settings) -> Outcome:
    """Apply all that is wanted, delete all that is not, report how many are there."""
    wanted = wanted_children(observed.obj)
    refs = {Ref(m["kind"], m["metadata"]["name"]) for m in wanted}
    there = len(refs & set(observed.children))
    ready = there == len(refs)
    return Outcome(
        apply=tuple(wanted),
        delete=tuple(sorted(set(observed.children) - refs)),
        status={
            "observedGeneration": observed.obj["metadata"]["generation"],
            "children": there,
            "conditions": [
                condition("Ready", ready, "Serving" if ready else "Progressing"),
                condition("Reconciling", not ready, "Progressing"),
                condition("Stalled", False, "NotStalled"),
            ],
        },
        requeue_after=None if ready else 1.0,
    )


def condition(type_: str, status: bool, reason: str, message: str = "") -> Manifest:
    return {"type": type_, "status": str(status), "reason": reason, "message": message, "observedGeneration": 1}


class NoTraffic:
    def of(self, key: Key) -> Mapping[str, KVTraffic]:
        return {}

    def forget(self, key: Key) -> None:
        """Nothing is known."""


class SlowApi:
    """The fake, with every request taking its time, so that passes overlap."""

    def __init__(self, fake: FakeApi, latency: float = 0.01) -> None:
        self._fake = fake
        self._latency = latency

    async def list(self, resource: Resource, namespace: str | None, selector: str = "") -> Any:
        await asyncio.sleep(self._latency)
        async for item in self._fake.list(resource, namespace, selector):
            yield item

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def slowly(*args: Any, **kwargs: Any) -> Any:
            await asyncio.sleep(self._latency / 2)
            try:
                return await getattr(self._fake, name)(*args, **kwargs)
            finally:
                await asyncio.sleep(self._latency / 2)

        return slowly


class ExclusiveReconciler(Reconciler):
    """Fails loudly when two passes of one key overlap."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.running: set[Key] = set()
        self.overlaps: list[Key] = []
        self.passes = 0

    async def reconcile(self, key: Key) -> Result:
        if key in self.running:
            self.overlaps.append(key)
        self.running.add(key)
        self.passes += 1
        try:
            return await super().reconcile(key)
        finally:
            self.running.discard(key)


class Loop:
    """One life of the operator on a fake API server. Watch events arrive `lag` seconds late, in order."""

    def __init__(self, fake: FakeApi, decide: Decide = simple_decide, lag: float = 0.02, workers: int = 3) -> None:
        self.fake = fake
        self.metrics = Metrics()
        self.queue: WorkQueue[Key] = WorkQueue()
        api = SlowApi(fake)
        clock = asyncio.get_running_loop().time
        self.cache = Cache(api, (NAMESPACE,))
        self.status = StatusWriter(api, self.cache, self.metrics, "test", clock)
        self.reconciler = ExclusiveReconciler(api, self.cache, decide, SETTINGS, self.status, NoTraffic())
        self.workers = Workers(self.queue, self.reconciler, self.metrics, workers)
        self.waker = Waker(self.cache, SliceMemory(), self.queue, self.metrics)
        self.lose: Callable[[str, Manifest], bool] = lambda kind, obj: False
        """Which watch events never arrive."""
        self._lag = lag
        self._dead = False
        fake.watchers.append(self._deliver)

    def _deliver(self, kind: str, obj: Manifest) -> None:
        if not self._dead and not self.lose(kind, obj) and obj["kind"] not in ("Event", "ResourceSlice"):
            asyncio.get_running_loop().call_later(self._lag, self._see, kind, obj)

    def _see(self, kind: str, obj: Manifest) -> None:
        if not self._dead:
            self.waker.see(obj, deleted=kind == "DELETED")

    async def resync(self) -> None:
        await self.cache.resync()
        for key in self.cache.all_keys():
            self.queue.add(key)

    @asynccontextmanager
    async def alive(self) -> Any:
        """Workers run while the context is open; afterwards this life is over, whatever it was in the middle of."""
        task = asyncio.create_task(self.workers.run())
        try:
            yield self
        finally:
            self._dead = True
            self.fake.watchers.remove(self._deliver)
            self.workers.stop()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def settled(fake: FakeApi) -> list[str]:
    """What of the cluster is not as the objects want it; empty once all has converged."""
    wrong = []
    wanted = {}
    for obj in fake.objects(KIND):
        for manifest in wanted_children(obj):
            wanted[manifest["kind"], manifest["metadata"]["name"]] = manifest["spec"]
        if obj.get("status", {}).get("observedGeneration") != obj["metadata"]["generation"]:
            wrong.append(f"{obj['metadata']['name']}: status is of an old generation")
    live = {(o["kind"], o["metadata"]["name"]): o["spec"] for k in ("Deployment", "Service") for o in fake.objects(k)}
    wrong += [f"missing {ref}" for ref in wanted.keys() - live.keys()]
    wrong += [f"orphan {ref}" for ref in live.keys() - wanted.keys()]
    wrong += [f"drifted {ref}" for ref in wanted.keys() & live.keys() if wanted[ref] != live[ref]]
    return wrong
