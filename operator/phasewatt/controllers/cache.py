"""What the operator last saw of each object, its children and its pods, so that a pass at rest costs no request.

Watch events feed it, and so do the answers to our own writes (a pass reads what the last one wrote). A version is never
replaced by an older one. Since a watch that had to start over can miss deletions, a LIST puts the cache right: at
start-up, now and then, and before anything is deleted.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from enum import IntEnum

from phasewatt.controllers.keys import MANAGED, Key, children_of, owner_key
from phasewatt.controllers.slim import Frozen, freeze, version_of
from phasewatt.kube.port import CLAIM, DEPLOYMENT, OBJECT, POD, SERVICE, Api, Manifest, Resource
from phasewatt.plan.types import Ref

CHILDREN = (DEPLOYMENT, SERVICE, CLAIM)
"""Kinds that the operator makes and removes itself."""

Slot = dict[Ref, Frozen]


class Change(IntEnum):
    """How much a look at an object changed what we knew."""

    NONE = 0
    STATUS = 1
    SHAPE = 2


class Cache:
    """Slim copies by key. Not thread-safe: one event loop owns it."""

    def __init__(self, api: Api, namespaces: tuple[str, ...] = (), children: tuple[Resource, ...] = CHILDREN) -> None:
        """Watch those namespaces (none named: all); `children` are the kinds that this API server serves."""
        self._api = api
        self._children = children
        self._namespaces: tuple[str | None, ...] = namespaces or (None,)
        self._slots: dict[Key, Slot] = {}

    def all_keys(self) -> list[Key]:
        """Keys of all objects that exist."""
        return [key for key, slot in self._slots.items() if _self_ref(key) in slot]

    def object(self, key: Key) -> Manifest | None:
        return self._thawed(key, _self_ref(key))

    def child(self, key: Key, ref: Ref) -> Manifest | None:
        return self._thawed(key, ref)

    def children(self, key: Key) -> dict[Ref, Manifest]:
        """Children by labels, whoever controls them, in a stable order."""
        return {ref: frozen.thaw() for ref, frozen in self._of(key, {r.kind for r in self._children})}

    def pods(self, key: Key) -> tuple[Manifest, ...]:
        return tuple(frozen.thaw() for _, frozen in self._of(key, {POD.kind}))

    def observe(self, obj: Manifest, *, deleted: bool = False) -> tuple[Key, Change] | None:
        """Take in what a watch event or an answer shows; None for something that belongs to no object."""
        key = _key_of(obj)
        if key is None:
            return None
        slot, ref = self._slots.setdefault(key, {}), Ref(obj["kind"], obj["metadata"]["name"])
        change = self._remove(slot, ref, version_of(obj)) if deleted else self._store(slot, ref, obj)
        if not slot:
            del self._slots[key]
        return key, change

    def forget(self, key: Key, ref: Ref) -> None:
        """Drop a child that an answer of the API server says is gone."""
        if (slot := self._slots.get(key)) is not None:
            slot.pop(ref, None)

    async def refresh(self, key: Key) -> bool:
        """LIST the children of one object; whether anything was not as remembered."""
        differs = False
        for resource in self._children:
            known = {(key, ref): frozen.version for ref, frozen in self._of(key, {resource.kind})}
            items = self._api.list(resource, key.namespace, children_of(key))
            differs |= bool(await self._reconcile_listing(known, items))
        return differs

    async def resync(self) -> set[Key]:
        """LIST everything; the keys of which anything was not as remembered."""
        changed: set[Key] = set()
        for resource in (OBJECT, *self._children, POD):
            for namespace in self._namespaces:
                known = dict(self._known(resource.kind, namespace))
                items = self._api.list(resource, namespace, "" if resource == OBJECT else MANAGED)
                changed |= await self._reconcile_listing(known, items)
        return changed

    async def _reconcile_listing(
        self, known: Mapping[tuple[Key, Ref], int], items: AsyncIterator[Manifest]
    ) -> set[Key]:
        changed: set[Key] = set()
        missing = dict(known)
        async for item in items:
            seen = self.observe(item)
            if seen is None:
                continue
            missing.pop((seen[0], Ref(item["kind"], item["metadata"]["name"])), None)
            if seen[1]:
                changed.add(seen[0])
        for (key, ref), version in missing.items():
            # Only what has not changed since before the LIST is surely gone; the rest is younger than the LIST.
            frozen = self._slots.get(key, {}).get(ref)
            if frozen is not None and frozen.version == version:
                self.forget(key, ref)
                changed.add(key)
        return changed

    def _known(self, kind: str, namespace: str | None) -> Iterator[tuple[tuple[Key, Ref], int]]:
        for key, slot in self._slots.items():
            if namespace in (None, key.namespace):
                yield from (((key, ref), frozen.version) for ref, frozen in slot.items() if ref.kind == kind)

    def _of(self, key: Key, kinds: set[str]) -> list[tuple[Ref, Frozen]]:
        slot = self._slots.get(key, {})
        return sorted(((ref, frozen) for ref, frozen in slot.items() if ref.kind in kinds), key=lambda pair: pair[0])

    def _thawed(self, key: Key, ref: Ref) -> Manifest | None:
        frozen = self._slots.get(key, {}).get(ref)
        return frozen.thaw() if frozen else None

    @staticmethod
    def _store(slot: Slot, ref: Ref, obj: Manifest) -> Change:
        before = slot.get(ref)
        if before is not None and version_of(obj) <= before.version:
            return Change.NONE
        after = slot[ref] = freeze(obj)
        if before is None or before.shape != after.shape:
            return Change.SHAPE
        return Change.NONE if before.packed == after.packed else Change.STATUS

    @staticmethod
    def _remove(slot: Slot, ref: Ref, version: int) -> Change:
        before = slot.get(ref)
        # An older deletion than what we know is that of a namesake that has come back since.
        if before is None or version < before.version:
            return Change.NONE
        del slot[ref]
        return Change.SHAPE


def _self_ref(key: Key) -> Ref:
    return Ref(OBJECT.kind, key.name)


def _key_of(obj: Manifest) -> Key | None:
    if obj["kind"] == OBJECT.kind:
        return Key(obj["metadata"]["namespace"], obj["metadata"]["name"])
    return owner_key(obj)
