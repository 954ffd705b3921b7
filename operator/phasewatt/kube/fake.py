"""A small API server in memory, behind the same port: for unit and property tests, never for production.

Faithful where the operator could be wrong: resource versions, uids, generations, server-side apply with field removal,
preconditions, finalizers, label selectors, status as a subresource, watch events, and failures on demand, including
requests that take effect although their answer is lost.
"""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, NamedTuple

from phasewatt.kube.errors import ApiError, ConflictError, InvalidError, NotFoundError
from phasewatt.kube.port import RESOURCES, Manifest, Resource

EPOCH = "2026-01-01T00:00:00Z"


class When(Enum):
    """Whether a request fails before it takes effect, or after (its answer is lost)."""

    BEFORE = auto()
    AFTER = auto()


class Request(NamedTuple):
    """One request as it was made; `name` is empty for lists."""

    verb: str
    kind: str
    namespace: str
    name: str


class Fault(NamedTuple):
    when: When
    error: ApiError


class Id(NamedTuple):
    kind: str
    namespace: str
    name: str


Watcher = Callable[[str, Manifest], None]
"""Called with ADDED, MODIFIED or DELETED and a copy of the object."""

WRITES = frozenset({"apply", "apply_status", "delete", "patch"})


@dataclass(slots=True)
class FakeApi:
    """`fault` is asked before every request whether, when and how it fails."""

    fault: Callable[[Request], Fault | None] = lambda request: None
    watchers: list[Watcher] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    events: list[Manifest] = field(default_factory=list)
    _objects: dict[Id, Manifest] = field(default_factory=dict)
    _applied: dict[tuple[Id, str], Manifest] = field(default_factory=dict)
    _versions: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _uids: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def writes(self) -> list[Request]:
        """Requests that change something; events do not count."""
        return [request for request in self.requests if request.verb in WRITES]

    # The port.

    async def get(self, resource: Resource, namespace: str, name: str) -> Manifest | None:
        with self._request("get", resource.kind, namespace, name):
            return copy.deepcopy(self._objects.get(Id(resource.kind, namespace, name)))

    async def list(self, resource: Resource, namespace: str | None, selector: str = "") -> AsyncIterator[Manifest]:
        with self._request("list", resource.kind, namespace or "", ""):
            items = [
                copy.deepcopy(obj)
                for id_, obj in self._objects.items()
                if id_.kind == resource.kind and namespace in (None, id_.namespace) and _matches(obj, selector)
            ]
        for item in items:
            yield item

    async def apply(self, manifest: Manifest) -> Manifest:
        id_ = _id(manifest)
        with self._request("apply", *id_):
            return self._apply(id_, manifest, "")

    async def apply_status(self, manifest: Manifest) -> Manifest:
        id_ = _id(manifest)
        with self._request("apply_status", *id_):
            if id_ not in self._objects:
                raise NotFoundError(f"{id_} not found", code=404)
            return self._apply(id_, manifest, "status")

    async def delete(
        self, resource: Resource, namespace: str, name: str, *, uid: str, resource_version: str
    ) -> Manifest | None:
        id_ = Id(resource.kind, namespace, name)
        with self._request("delete", *id_):
            live = self._objects.get(id_)
            if live is None:
                return None
            if (live["metadata"]["uid"], live["metadata"]["resourceVersion"]) != (uid, resource_version):
                raise ConflictError(f"precondition failed for {id_}", code=409)
            return self.remove(*id_)

    async def patch_annotations(
        self, resource: Resource, namespace: str, name: str, *, uid: str, annotations: dict[str, str]
    ) -> Manifest:
        id_ = Id(resource.kind, namespace, name)
        with self._request("patch", *id_):
            if id_ not in self._objects:
                raise NotFoundError(f"{id_} not found", code=404)
            if self._objects[id_]["metadata"]["uid"] != uid:
                raise ConflictError(f"uid of {id_} differs", code=409)
            return self.update(*id_, lambda o: o["metadata"].setdefault("annotations", {}).update(annotations))

    async def post_event(self, event: Manifest) -> None:
        with self._request("create", "Event", event["metadata"]["namespace"], ""):
            self.events.append(copy.deepcopy(event))

    # What users and other controllers do; not counted and never failing.

    def create(self, manifest: Manifest) -> Manifest:
        """Create an object as someone else would. Raises ConflictError where it exists."""
        id_ = _id(manifest)
        if id_ in self._objects:
            raise ConflictError(f"{id_} exists", code=409)
        obj = copy.deepcopy(manifest)
        obj["metadata"] |= {"uid": f"uid-{next(self._uids)}", "creationTimestamp": EPOCH, "generation": 1}
        return self._store(id_, obj, "ADDED")

    def update(self, kind: str, namespace: str, name: str, change: Callable[[Manifest], object]) -> Manifest:
        """Change an object in place as someone else would; a change of its spec is a new generation."""
        id_ = Id(kind, namespace, name)
        before, after = self._objects[id_], copy.deepcopy(self._objects[id_])
        change(after)
        return self._replace(id_, before, after)

    def remove(self, kind: str, namespace: str, name: str) -> Manifest | None:
        """Delete an object; where finalizers hold it, it stays with a deletion timestamp and is returned."""
        id_ = Id(kind, namespace, name)
        live = self._objects[id_]
        if live["metadata"].get("finalizers"):
            return self.update(*id_, lambda o: o["metadata"].setdefault("deletionTimestamp", EPOCH))
        del self._objects[id_]
        self._applied = {k: v for k, v in self._applied.items() if k[0] != id_}
        gone = {**live, "metadata": {**live["metadata"], "resourceVersion": str(next(self._versions))}}
        self._notify("DELETED", gone)
        return None

    def collect_garbage(self) -> None:
        """Delete what is controlled by an object that does not exist, as the garbage collector does."""
        alive = {obj["metadata"]["uid"] for obj in self._objects.values()}
        for id_, obj in list(self._objects.items()):
            owners = [owner["uid"] for owner in obj["metadata"].get("ownerReferences", [])]
            if owners and not alive.intersection(owners):
                self.remove(*id_)

    def objects(self, kind: str, namespace: str | None = None) -> Sequence[Manifest]:
        """Copies of all objects of a kind."""
        return [
            copy.deepcopy(obj)
            for id_, obj in self._objects.items()
            if id_.kind == kind and namespace in (None, id_.namespace)
        ]

    def _apply(self, id_: Id, manifest: Manifest, subresource: str) -> Manifest:
        before = self._objects.get(id_)
        uid = manifest["metadata"].get("uid")
        if uid is not None and (before is None or before["metadata"]["uid"] != uid):
            raise ConflictError(f"uid of {id_} differs", code=409)
        wanted = copy.deepcopy(manifest)
        if before is None:
            created = self.create(wanted)
            self._applied[id_, subresource] = wanted
            return created
        _refuse_second_controller(before, wanted, id_)
        after = copy.deepcopy(before)
        _subtract(after, self._applied.get((id_, subresource), {}), wanted)
        _merge(after, {"status": wanted["status"]} if subresource else wanted)
        self._applied[id_, subresource] = wanted
        return self._replace(id_, before, after)

    def _replace(self, id_: Id, before: Manifest, after: Manifest) -> Manifest:
        if after == before:
            return copy.deepcopy(before)
        if after.get("spec") != before.get("spec"):
            after["metadata"]["generation"] += 1
        if after["metadata"].get("deletionTimestamp") and not after["metadata"].get("finalizers"):
            self._objects[id_] = {**after, "metadata": _without_finalizers(after["metadata"])}
            self.remove(*id_)
            return after
        return self._store(id_, after, "MODIFIED")

    def _store(self, id_: Id, obj: Manifest, kind: str) -> Manifest:
        obj["metadata"]["resourceVersion"] = str(next(self._versions))
        self._objects[id_] = obj
        self._notify(kind, obj)
        return copy.deepcopy(obj)

    def _notify(self, kind: str, obj: Manifest) -> None:
        for watcher in self.watchers:
            watcher(kind, copy.deepcopy(obj))

    def _request(self, verb: str, kind: str, namespace: str, name: str) -> _Attempt:
        request = Request(verb, kind, namespace, name)
        self.requests.append(request)
        return _Attempt(self.fault(request))


class _Attempt:
    """Raises the fault of a request at its moment."""

    def __init__(self, fault: Fault | None) -> None:
        self._fault = fault

    def __enter__(self) -> None:
        if self._fault and self._fault.when is When.BEFORE:
            raise self._fault.error

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if self._fault and error is None:
            raise self._fault.error


def _id(manifest: Manifest) -> Id:
    if manifest["kind"] not in RESOURCES:
        raise InvalidError(f"unknown kind {manifest['kind']}", code=400)
    return Id(manifest["kind"], manifest["metadata"].get("namespace", ""), manifest["metadata"]["name"])


def _matches(obj: Manifest, selector: str) -> bool:
    labels = obj["metadata"].get("labels", {})
    pairs = (term.split("=", 1) for term in selector.split(",") if term)
    return all(labels.get(key) == value for key, value in pairs)


def _merge(live: Manifest, wanted: Manifest) -> None:
    """Deep merge; lists of objects with a `type` merge by it, other lists are replaced."""
    for key, value in wanted.items():
        if isinstance(value, dict) and isinstance(live.get(key), dict):
            _merge(live[key], value)
        elif _is_by_type(value) and _is_by_type(live.get(key)):
            live[key] = list(({c["type"]: c for c in live[key]} | {c["type"]: c for c in value}).values())
        else:
            live[key] = value


def _is_by_type(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(c, dict) and "type" in c for c in value)


def _subtract(live: Manifest, before: Manifest, wanted: Manifest) -> None:
    """Remove what was applied before and is no longer wanted."""
    for key, value in before.items():
        if key not in wanted:
            live.pop(key, None)
        elif isinstance(value, dict) and isinstance(wanted[key], dict) and isinstance(live.get(key), dict):
            _subtract(live[key], value, wanted[key])


def _refuse_second_controller(live: Manifest, wanted: Manifest, id_: Id) -> None:
    owners = {
        owner["uid"]
        for obj in (live, wanted)
        for owner in obj["metadata"].get("ownerReferences", [])
        if owner.get("controller")
    }
    if len(owners) > 1:
        raise InvalidError(f"{id_}: only one reference can have Controller set to true: {json.dumps(sorted(owners))}")


def _without_finalizers(metadata: Manifest) -> Manifest:
    return {key: value for key, value in metadata.items() if key != "finalizers"}
