"""The plugin's few words with the API server. Plain dicts in API form; retries belong to the callers' loops."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, cast

from kubernetes import client, config, watch
from urllib3.exceptions import HTTPError

from phasewatt_mockgpu import DRIVER_NAME

Manifest = dict[str, Any]
CLUSTER_ERRORS = (client.ApiException, HTTPError)
"""What any call here may raise when the API server refuses it or cannot be reached."""
_GROUP, _VERSION, _SLICES, _CLAIMS = "resource.k8s.io", "v1", "resourceslices", "resourceclaims"
_TIMEOUT_SECONDS = (5, 15)
_WATCH_SECONDS = 300


class ClusterApi(Protocol):
    """What the plugin needs of a cluster."""

    def node_uid(self, node: str) -> str: ...
    def get_claim(self, namespace: str, name: str) -> Manifest | None: ...
    def list_slices(self, node: str) -> list[Manifest]: ...
    def create_slice(self, manifest: Manifest) -> None: ...
    def replace_slice(self, manifest: Manifest) -> None: ...
    def delete_slice(self, name: str) -> None: ...
    def slice_events(self, node: str) -> Iterator[None]: ...


class KubernetesApi:
    """ClusterApi on the official client."""

    def __init__(self, api_client: client.ApiClient) -> None:
        self._core = client.CoreV1Api(api_client)
        # The generic client keeps API field names and plain dicts; the typed one renames fields for Python.
        self._objects = client.CustomObjectsApi(api_client)

    @classmethod
    def in_cluster(cls) -> KubernetesApi:
        """With the pod's own service account."""
        configuration = client.Configuration()
        config.load_incluster_config(configuration)
        return cls(client.ApiClient(configuration))

    def node_uid(self, node: str) -> str:
        found: Any = self._core.read_node(node, _request_timeout=_TIMEOUT_SECONDS)
        return str(found.metadata.uid)

    def get_claim(self, namespace: str, name: str) -> Manifest | None:
        """The ResourceClaim, or None when there is none."""
        try:
            claim: Any = self._objects.get_namespaced_custom_object(
                _GROUP, _VERSION, namespace, _CLAIMS, name, _request_timeout=_TIMEOUT_SECONDS
            )
        except client.ApiException as error:
            if error.status == 404:
                return None
            raise
        return cast(Manifest, claim)

    def list_slices(self, node: str) -> list[Manifest]:
        """All ResourceSlices that this driver publishes for `node`."""
        answer: Any = self._objects.list_cluster_custom_object(
            _GROUP, _VERSION, _SLICES, field_selector=_ours(node), _request_timeout=_TIMEOUT_SECONDS
        )
        return cast(list[Manifest], answer["items"])

    def create_slice(self, manifest: Manifest) -> None:
        self._objects.create_cluster_custom_object(
            _GROUP, _VERSION, _SLICES, manifest, _request_timeout=_TIMEOUT_SECONDS
        )

    def replace_slice(self, manifest: Manifest) -> None:
        self._objects.replace_cluster_custom_object(
            _GROUP, _VERSION, _SLICES, manifest["metadata"]["name"], manifest, _request_timeout=_TIMEOUT_SECONDS
        )

    def delete_slice(self, name: str) -> None:
        """Delete the slice; one that is gone already is fine."""
        try:
            self._objects.delete_cluster_custom_object(
                _GROUP, _VERSION, _SLICES, name, _request_timeout=_TIMEOUT_SECONDS
            )
        except client.ApiException as error:
            if error.status != 404:
                raise

    def slice_events(self, node: str) -> Iterator[None]:
        """One item per change of the node's slices, for a few minutes: the caller then lists again and starts anew."""
        events = watch.Watch().stream(
            self._objects.list_cluster_custom_object,
            _GROUP,
            _VERSION,
            _SLICES,
            field_selector=_ours(node),
            timeout_seconds=_WATCH_SECONDS,
            _request_timeout=(_TIMEOUT_SECONDS[0], _WATCH_SECONDS + 15),
        )
        for _ in events:
            yield


def _ours(node: str) -> str:
    return f"spec.nodeName={node},spec.driver={DRIVER_NAME}"
