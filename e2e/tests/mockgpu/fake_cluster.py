"""A cluster in memory, as far as the node plugin can see one, and what tests share about the node."""

from __future__ import annotations

import copy
import queue
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import phasewatt_mockgpu
import yaml
from kubernetes.client import ApiException

MANIFESTS = Path(phasewatt_mockgpu.__file__).parent / "manifests"
NODE = "worker-1"


def shipped_inventory() -> dict[str, Any]:
    config_map = yaml.safe_load((MANIFESTS / "20-inventory.yaml").read_text())
    content: dict[str, Any] = yaml.safe_load(config_map["data"]["inventory.yaml"])
    return content


def eventually(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait until `condition` is truthy; fail when it is not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.02)


class FakeCluster:
    """The few API calls of the plugin, in memory, with the resource versions and conflicts of a real server."""

    def __init__(self) -> None:
        self.slices: dict[str, dict[str, Any]] = {}
        self.claims: dict[tuple[str, str], dict[str, Any]] = {}
        self.writes: list[str] = []
        self.unreachable = False
        self._events: queue.Queue[None] = queue.Queue()
        self._version = 0
        self._lock = threading.Lock()

    def node_uid(self, node: str) -> str:
        self._check()
        return f"uid-of-{node}"

    def get_claim(self, namespace: str, name: str) -> dict[str, Any] | None:
        self._check()
        return copy.deepcopy(self.claims.get((namespace, name)))

    def list_slices(self, node: str) -> list[dict[str, Any]]:
        self._check()
        with self._lock:
            return [copy.deepcopy(s) for s in self.slices.values() if s["spec"]["nodeName"] == node]

    def create_slice(self, manifest: dict[str, Any]) -> None:
        name = manifest["metadata"]["name"]
        if name in self.slices:
            raise ApiException(status=409, reason="AlreadyExists")
        self._store("create", manifest)

    def replace_slice(self, manifest: dict[str, Any]) -> None:
        current = self.slices[manifest["metadata"]["name"]]
        if manifest["metadata"]["resourceVersion"] != current["metadata"]["resourceVersion"]:
            raise ApiException(status=409, reason="Conflict")
        self._store("replace", manifest)

    def delete_slice(self, name: str) -> None:
        self._check()
        with self._lock:
            self.slices.pop(name, None)
            self.writes.append("delete")
        self._events.put(None)

    def slice_events(self, node: str) -> Iterator[None]:
        while True:
            try:
                yield self._events.get(timeout=0.1)
            except queue.Empty:
                return

    def allocate(self, name: str, uid: str, *results: tuple[str, str], **extra: Any) -> dict[str, Any]:
        """Store a claim as the scheduler leaves it: `results` are pairs of request and device."""
        claim: dict[str, Any] = {
            "metadata": {"namespace": "default", "name": name, "uid": uid},
            "status": {
                "allocation": {
                    "devices": {
                        "results": [
                            {"driver": "gpu.nvidia.com", "pool": NODE, "request": request, "device": device, **extra}
                            for request, device in results
                        ]
                    }
                }
            },
        }
        self.claims["default", name] = claim
        return claim

    def _store(self, verb: str, manifest: dict[str, Any]) -> None:
        self._check()
        with self._lock:
            self._version += 1
            stored = copy.deepcopy(manifest)
            stored["metadata"]["resourceVersion"] = str(self._version)
            self.slices[manifest["metadata"]["name"]] = stored
            self.writes.append(verb)
        self._events.put(None)

    def _check(self) -> None:
        if self.unreachable:
            raise ApiException(status=503, reason="unreachable")
