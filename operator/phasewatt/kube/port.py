"""What the operator asks of a Kubernetes API server: six methods over plain dicts, and events.

Controllers depend on this port alone, so that the same loop runs on a real API server and on `phasewatt.kube.fake`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, NamedTuple, Protocol

from phasewatt.api.v1alpha1 import API_VERSION, KIND, PLURAL

Manifest = dict[str, Any]

FIELD_MANAGER = "phasewatt"
"""Owner of every field that the operator applies (server-side apply)."""


class Resource(NamedTuple):
    """Where a kind lives in the API."""

    kind: str
    api_version: str
    plural: str
    namespaced: bool = True

    @property
    def group(self) -> str:
        """API group; empty for the core group."""
        return self.api_version.rpartition("/")[0]

    @property
    def version(self) -> str:
        return self.api_version.rpartition("/")[2]

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """URL path of the collection, the object or its subresource.

        Source: Kubernetes documentation, "Kubernetes API Concepts", resource URIs.
        """
        root = f"/apis/{self.api_version}" if self.group else f"/api/{self.version}"
        scope = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        leaf = f"/{name}" if name else ""
        return f"{root}{scope}/{self.plural}{leaf}" + (f"/{subresource}" if subresource else "")


OBJECT = Resource(KIND, API_VERSION, PLURAL)
DEPLOYMENT = Resource("Deployment", "apps/v1", "deployments")
SERVICE = Resource("Service", "v1", "services")
CLAIM = Resource("ResourceClaim", "resource.k8s.io/v1", "resourceclaims")
POD = Resource("Pod", "v1", "pods")
SLICE = Resource("ResourceSlice", "resource.k8s.io/v1", "resourceslices", namespaced=False)
EVENT = Resource("Event", "events.k8s.io/v1", "events")

RESOURCES = {r.kind: r for r in (OBJECT, DEPLOYMENT, SERVICE, CLAIM, POD, SLICE, EVENT)}


class Api(Protocol):
    """Every method raises a `phasewatt.kube.errors.ApiError` when the server refuses or cannot be reached."""

    async def get(self, resource: Resource, namespace: str, name: str) -> Manifest | None:
        """The live object; None where there is none."""
        ...

    def list(self, resource: Resource, namespace: str | None, selector: str = "") -> AsyncIterator[Manifest]:
        """All objects of one namespace (None: of all) that match the label selector, page by page.

        The items together are one consistent state of the collection, no older than the moment of the call.
        """
        ...

    async def apply(self, manifest: Manifest) -> Manifest:
        """Server-side apply with force; returns the object as stored. `metadata.uid`, if given, is a precondition."""
        ...

    async def apply_status(self, manifest: Manifest) -> Manifest:
        """Server-side apply of `status` alone; returns the object as stored. `metadata.uid` is a precondition."""
        ...

    async def delete(
        self, resource: Resource, namespace: str, name: str, *, uid: str, resource_version: str
    ) -> Manifest | None:
        """Delete exactly that object in exactly that state; dependents follow in the background.

        Returns the object where finalizers still hold it, None where it is gone.
        """
        ...

    async def patch_annotations(
        self, resource: Resource, namespace: str, name: str, *, uid: str, annotations: dict[str, str]
    ) -> Manifest:
        """Merge annotations into exactly that object; returns it as stored."""
        ...

    async def post_event(self, event: Manifest) -> None:
        """Create an events.k8s.io/v1 Event."""
        ...
