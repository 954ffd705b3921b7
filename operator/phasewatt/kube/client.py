"""The port on a real API server, by the raw requests of `kubernetes.aio`: dicts in, dicts out.

Its typed models and its dynamic client cost about twice the CPU of a raw request, and a list of typed objects takes
many times the memory of the slim copies that the operator keeps.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio.client import ApiClient, Configuration

from phasewatt.kube.auth import authorization, is_tls_failure
from phasewatt.kube.errors import NotFoundError, RetryableError, error_for
from phasewatt.kube.port import EVENT, FIELD_MANAGER, RESOURCES, Manifest, Resource

APPLY = "application/apply-patch+yaml"
"""JSON is YAML, so the body is sent as JSON under this type. Source: Kubernetes API concepts, "Server-side apply"."""
MERGE = "application/merge-patch+json"
PAGE = 250
"""Objects per page of a list: bounds the memory of one page to about 10 MiB of parsed Deployments."""
TIMEOUT = aiohttp.ClientTimeout(total=30, sock_connect=5)

RequestObserver = Callable[[str, str, int], None]
"""Called after each request with its verb, the kind and the HTTP status (0 where there was no answer)."""


class KubeClient:
    """Talks to one API server. Use as an async context manager, so that its connections are closed."""

    def __init__(self, configuration: Configuration, observe: RequestObserver | None = None) -> None:
        self._configuration = configuration
        self._client = ApiClient(configuration)
        self._observe = observe or (lambda verb, kind, code: None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.close()

    async def get(self, resource: Resource, namespace: str, name: str) -> Manifest | None:
        try:
            return await self._request("get", resource, resource.path(namespace, name))
        except NotFoundError:
            return None

    async def list(self, resource: Resource, namespace: str | None, selector: str = "") -> AsyncIterator[Manifest]:
        query = {"limit": str(PAGE)} | ({"labelSelector": selector} if selector else {})
        while True:
            page = await self._request("list", resource, resource.path(namespace), query)
            for item in page["items"]:
                # Items of a list carry no type of their own.
                yield {"apiVersion": resource.api_version, "kind": resource.kind, **item}
            following = page["metadata"].get("continue")
            if not following:
                return
            query["continue"] = following

    async def apply(self, manifest: Manifest) -> Manifest:
        return await self._apply(manifest, None)

    async def apply_status(self, manifest: Manifest) -> Manifest:
        return await self._apply(manifest, "status")

    async def _apply(self, manifest: Manifest, subresource: str | None) -> Manifest:
        resource, metadata = RESOURCES[manifest["kind"]], manifest["metadata"]
        path = resource.path(metadata.get("namespace"), metadata["name"], subresource)
        query = {"fieldManager": FIELD_MANAGER, "force": "true"}
        verb = f"apply_{subresource}" if subresource else "apply"
        return await self._request(verb, resource, path, query, body=manifest, content_type=APPLY)

    async def delete(
        self, resource: Resource, namespace: str, name: str, *, uid: str, resource_version: str
    ) -> Manifest | None:
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",
            "preconditions": {"uid": uid, "resourceVersion": resource_version},
        }
        try:
            answer = await self._request("delete", resource, resource.path(namespace, name), body=options)
        except NotFoundError:
            return None
        return answer if answer.get("kind") == resource.kind else None

    async def patch_annotations(
        self, resource: Resource, namespace: str, name: str, *, uid: str, annotations: dict[str, str]
    ) -> Manifest:
        # The uid cannot be changed, so naming it makes the server refuse a namesake.
        body = {"metadata": {"uid": uid, "annotations": annotations}}
        query = {"fieldManager": FIELD_MANAGER}
        path = resource.path(namespace, name)
        return await self._request("patch", resource, path, query, body=body, content_type=MERGE)

    async def post_event(self, event: Manifest) -> None:
        await self._request("create", EVENT, EVENT.path(event["metadata"]["namespace"]), body=event)

    async def _request(
        self,
        verb: str,
        resource: Resource,
        path: str,
        query: dict[str, str] | None = None,
        *,
        body: Manifest | None = None,
        content_type: str = "application/json",
    ) -> Manifest:
        code = 0
        try:
            code, text, retry_after = await self._exchange(_METHODS[verb], path, query, body, content_type)
            if code >= 400:
                raise error_for(code, f"{verb} {path}: {_reason(text)}", retry_after)
            parsed: Manifest = json.loads(text)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            hint = " (check the certificate authority of the kubeconfig)" if is_tls_failure(error) else ""
            raise RetryableError(f"{verb} {path}: no answer: {error or type(error).__name__}{hint}") from error
        finally:
            self._observe(verb, resource.kind, code)
        return parsed

    async def _exchange(
        self, method: str, path: str, query: dict[str, str] | None, body: Manifest | None, content_type: str
    ) -> tuple[int, bytes, float | None]:
        scheme, token = await authorization(self._configuration)
        headers = {"Accept": "application/json", "Content-Type": content_type}
        headers |= {"Authorization": f"{scheme} {token}"} if token else {}
        url = f"{self._configuration.host}{path}" + (f"?{urlencode(query)}" if query else "")
        response = await self._client.call_api(method, url, headers, body, _request_timeout=TIMEOUT)
        text: bytes = await response.read()
        asked = response.getheader("Retry-After")
        return response.status, text, float(asked) if asked and asked.isdecimal() else None


_METHODS = {
    "get": "GET",
    "list": "GET",
    "create": "POST",
    "apply": "PATCH",
    "apply_status": "PATCH",
    "patch": "PATCH",
    "delete": "DELETE",
}


def _reason(text: bytes) -> str:
    """The message of a Status answer, or the start of whatever a proxy sent instead."""
    try:
        status: Any = json.loads(text)
        return str(status["message"])
    except (ValueError, KeyError, TypeError):
        return text[:200].decode(errors="replace") or "empty answer"
