"""One pass over one object: observe, decide, apply, delete, annotate, report. It holds no opinion of its own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import NamedTuple, Protocol

from phasewatt.controllers.cache import Cache
from phasewatt.controllers.drift import HASH_ANNOTATION, Difference, differences, stamped
from phasewatt.controllers.keys import Key, belongs_to_predecessor, controller_uid, owner_key
from phasewatt.controllers.reports import stalled, struggling, waiting
from phasewatt.controllers.status_writer import StatusWriter
from phasewatt.kube.errors import ConflictError, DeniedError, NotFoundError, TerminalError
from phasewatt.kube.port import POD, RESOURCES, Api, Manifest
from phasewatt.plan.types import Inventory, KVTraffic, Observed, Outcome, PodAnnotations, Ref, Settings

log = logging.getLogger(__name__)

Decide = Callable[[Observed, Settings], Outcome]

COLLECTION_POLL = 2.0
"""Seconds until another look at children that are on their way out; their deletion wakes the key earlier."""

DENIED_RETRY = 60.0
"""Seconds until a denied request is tried again: a quota may be freed, a role granted, a name given up."""


class NameTakenError(DeniedError):
    """A child of that name exists and belongs to someone else."""


class Traffic(Protocol):
    def of(self, key: Key) -> Mapping[str, KVTraffic]:
        """KV traffic by decode engine pod name."""
        ...

    def forget(self, key: Key) -> None: ...


class Verdict(StrEnum):
    """How a pass ended, for metrics."""

    DONE = "done"
    GONE = "gone"
    WAITING = "waiting"
    STALLED = "stalled"


class Result(NamedTuple):
    verdict: Verdict
    requeue_after: float | None = None
    """Seconds; None where events alone suffice."""


class Reconciler:
    """`decide` is pure; everything else here is its hands and eyes."""

    def __init__(
        self,
        api: Api,
        cache: Cache,
        decide: Decide,
        settings: Settings,
        status: StatusWriter,
        traffic: Traffic,
        inventory: Callable[[], Inventory] = Inventory,
    ) -> None:
        self._api = api
        self._cache = cache
        self._decide = decide
        self._settings = settings
        self._status = status
        self._traffic = traffic
        self._inventory = inventory
        self._accepted: dict[Key, dict[Ref, tuple[Difference, ...]]] = {}
        """What the server made differently of a manifest that it accepted."""

    async def reconcile(self, key: Key) -> Result:
        """Bring one object closer to its spec. Raises ApiError where the caller should try again later."""
        obj = self._cache.object(key)
        if obj is None:
            self._forget(key)
            return Result(Verdict.GONE)
        if "deletionTimestamp" in obj["metadata"]:
            return Result(Verdict.GONE)
        children = self._cache.children(key)
        if leftovers := [(ref, child) for ref, child in children.items() if belongs_to_predecessor(child, obj)]:
            await self._status.write(key, obj, _waiting_for(leftovers, obj))
            return Result(Verdict.WAITING, COLLECTION_POLL)
        outcome = self._look(key, obj, children)
        if outcome.delete and await self._cache.refresh(key):
            # The cache was behind: what to delete is decided anew, from what the server says.
            children = self._cache.children(key)
            outcome = self._look(key, obj, children)
        try:
            unfinished = await self._act(key, obj, children, outcome)
        except TerminalError as error:
            await self._status.write(key, obj, _stalled_by(error, obj, outcome.status))
            return Result(Verdict.STALLED, DENIED_RETRY if isinstance(error, DeniedError) else None)
        put_off = await self._status.write(key, obj, outcome.status)
        delays = (outcome.requeue_after, put_off, COLLECTION_POLL if unfinished else None)
        return Result(Verdict.DONE, min((d for d in delays if d is not None), default=None))

    async def report_failure(self, key: Key, error: Exception) -> None:
        """Tell in the object's status that its pass failed unexpectedly and is tried again."""
        obj = self._cache.object(key)
        if obj is None or "deletionTimestamp" in obj["metadata"]:
            return
        message = f"The operator failed on this object and tries again: {type(error).__name__}: {error}"
        generation = obj["metadata"].get("generation", 0)
        await self._status.write(key, obj, struggling(obj.get("status", {}), "InternalError", message, generation))

    def _look(self, key: Key, obj: Manifest, children: Mapping[Ref, Manifest]) -> Outcome:
        return self._decide(
            Observed(
                obj=obj,
                children=children,
                pods=self._cache.pods(key),
                inventory=self._inventory(),
                kv=self._traffic.of(key),
            ),
            self._settings,
        )

    async def _act(self, key: Key, obj: Manifest, children: Mapping[Ref, Manifest], outcome: Outcome) -> bool:
        """Do what was decided; whether something is still on its way out and must be looked at again.

        What one manifest is refused for stops neither the others nor the deletions: those may be what heals it.
        """
        unfinished = False
        refusals: list[TerminalError] = []
        for manifest in outcome.apply:
            try:
                unfinished |= await self._apply(key, obj, children, manifest)
            except TerminalError as error:
                log.warning("%s: %s %s: %s", key, manifest["kind"], manifest["metadata"]["name"], error)
                refusals.append(error)
        for ref in outcome.delete:
            live = children.get(ref)
            if live and _is_ours(live, obj) and "deletionTimestamp" not in live["metadata"]:
                await self._delete(key, ref, live)
        for pins in outcome.annotate:
            await self._annotate(key, pins)
        if refusals:
            raise refusals[0]
        return unfinished

    async def _apply(self, key: Key, obj: Manifest, children: Mapping[Ref, Manifest], manifest: Manifest) -> bool:
        wanted = stamped(manifest)
        ref = Ref(wanted["kind"], wanted["metadata"]["name"])
        live = children.get(ref) or await self._find(key, ref)
        if live is not None:
            _refuse_foreign(live, ref, obj)
            if "deletionTimestamp" in live["metadata"]:
                return True
            if self._is_as_wanted(key, ref, wanted, live):
                return False
        stored = await self._api.apply(wanted)
        self._cache.observe(stored)
        self._accepted.setdefault(key, {})[ref] = differences(wanted, stored)
        return False

    async def _find(self, key: Key, ref: Ref) -> Manifest | None:
        """Ask the server for a child that the cache does not know: forced apply would take over a stranger's."""
        live = await self._api.get(RESOURCES[ref.kind], key.namespace, ref.name)
        if live is not None and owner_key(live) == key:
            self._cache.observe(live)
        return live

    def _is_as_wanted(self, key: Key, ref: Ref, wanted: Manifest, live: Manifest) -> bool:
        stamp = live["metadata"].get("annotations", {}).get(HASH_ANNOTATION)
        if stamp != wanted["metadata"]["annotations"][HASH_ANNOTATION]:
            return False
        return differences(wanted, live) == self._accepted.get(key, {}).get(ref, ())

    async def _delete(self, key: Key, ref: Ref, live: Manifest) -> None:
        metadata = live["metadata"]
        held = await self._api.delete(
            RESOURCES[ref.kind],
            key.namespace,
            ref.name,
            uid=metadata["uid"],
            resource_version=metadata["resourceVersion"],
        )
        if held is None:
            self._cache.forget(key, ref)
        else:
            self._cache.observe(held)

    async def _annotate(self, key: Key, pins: PodAnnotations) -> None:
        pod = self._cache.child(key, Ref(POD.kind, pins.pod))
        if pod is None or pins.annotations.items() <= pod["metadata"].get("annotations", {}).items():
            return
        uid = pod["metadata"]["uid"]
        try:
            stored = await self._api.patch_annotations(
                POD, key.namespace, pins.pod, uid=uid, annotations=pins.annotations
            )
        except (NotFoundError, ConflictError):
            # The pod went away meanwhile; the event of that wakes the key again.
            return
        self._cache.observe(stored)

    def _forget(self, key: Key) -> None:
        self._accepted.pop(key, None)
        self._status.forget(key)
        self._traffic.forget(key)


def _waiting_for(leftovers: list[tuple[Ref, Manifest]], obj: Manifest) -> Manifest:
    ref, child = leftovers[0]
    holders = child["metadata"].get("finalizers", [])
    held = f" (held by finalizer {', '.join(holders)})" if holders else ""
    message = f"{ref.kind} {ref.name} of an earlier object of this name is still being deleted{held}."
    generation = obj["metadata"].get("generation", 0)
    return waiting(obj.get("status", {}), "WaitingForDeletion", message, generation)


def _is_ours(live: Manifest, obj: Manifest) -> bool:
    """Whether this object controls a child, or nobody does and its labels name this object: it was orphaned."""
    owner, name = controller_uid(live), obj["metadata"]["name"]
    orphaned = owner is None and owner_key(live) == Key(obj["metadata"]["namespace"], name)
    return orphaned or owner == obj["metadata"]["uid"]


def _refuse_foreign(live: Manifest, ref: Ref, obj: Manifest) -> None:
    if not _is_ours(live, obj):
        raise NameTakenError(
            f"{ref.kind} {ref.name} exists and does not belong to this object. "
            "Delete it, or give this object another name."
        )


def _stalled_by(error: TerminalError, obj: Manifest, status: Manifest) -> Manifest:
    reason = type(error).__name__.removesuffix("Error")
    return stalled(status, reason, str(error), obj["metadata"].get("generation", 0))
