"""Which GPUs an engine really got, where, and whether that is what was wished for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from phasewatt.api.v1alpha1 import Pairing
from phasewatt.plan import names
from phasewatt.plan.live import LiveGroup, is_terminating, label, revision
from phasewatt.plan.types import GPU, Inventory, Manifest, PodAnnotations


@dataclass(frozen=True, slots=True)
class Placement:
    """Where one group runs. `gpus` are UUIDs by engine name, empty where nothing tells them."""

    nodes: tuple[str, ...]
    gpus: Mapping[str, tuple[str, ...]]
    roots: tuple[str, ...]
    """PCIe roots of the GPUs, "" for a GPU that tells none."""

    def satisfies(self, pairing: Pairing | None) -> bool | None:
        """Whether the engines are as near to one another as wished; None while that cannot be told."""
        if pairing is None or not self.nodes:
            return None
        if len(self.nodes) > 1:
            return False
        if pairing is Pairing.SAME_NODE:
            return True
        if not self.roots:
            return None
        return len(self.roots) == 1 and self.roots[0] != ""


def pod_of(group: LiveGroup, deployment: str) -> Manifest | None:
    """The pod that counts for a Deployment: the newest that is not on its way out."""
    pods = [pod for pod in group.engine_pods.get(deployment, []) if not is_terminating(pod)]
    return max(pods, key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")), default=None)


def placement(group: LiveGroup, inventory: Inventory, resource_name: str) -> Placement:
    """Placement of one group, from its claim's allocation or from what kubelet says of the device plugin's GPUs."""
    pods = [pod for name in group.engine_pods if (pod := pod_of(group, name))]
    nodes = tuple(sorted({pod["spec"]["nodeName"] for pod in pods if pod["spec"].get("nodeName")}))
    known = {(gpu.pool, gpu.device): gpu for gpu in inventory.gpus}
    gpus: dict[str, tuple[str, ...]] = {}
    roots: set[str] = set()
    for claim in group.claims.values():
        for request, devices in _allocated(claim).items():
            found = [known.get((device["pool"], device["device"])) for device in devices]
            gpus[request] = tuple(
                gpu.uuid if gpu else device["device"] for gpu, device in zip(found, devices, strict=True)
            )
            roots |= {gpu.pcie_root if gpu else "" for gpu in found}
    for pod in pods:
        gpus.update(_from_device_plugin(pod, resource_name))
    return Placement(nodes, gpus, tuple(sorted(roots)))


def pins(groups: Mapping[int, LiveGroup], inventory: Inventory) -> tuple[PodAnnotations, ...]:
    """Annotations that tell engines which GPUs of their claim are their own, for pods that lack them."""
    known = {(gpu.pool, gpu.device): gpu for gpu in inventory.gpus}
    missing = []
    for _, group in sorted(groups.items()):
        for pod in (pod for pods in group.engine_pods.values() for pod in pods if not is_terminating(pod)):
            annotations = _missing_pins(pod, group, known)
            if annotations:
                missing.append(PodAnnotations(pod["metadata"]["name"], annotations))
    return tuple(missing)


def _missing_pins(pod: Manifest, group: LiveGroup, known: Mapping[tuple[str, str], GPU]) -> dict[str, str]:
    claims = [c.get("resourceClaimName") for c in pod["spec"].get("resourceClaims") or []]
    claim = next((group.claims[name] for name in claims if name in group.claims), None)
    if claim is None or revision(pod) is None:
        return {}
    present = pod["metadata"].get("annotations") or {}
    own = label(pod, names.ENGINE)
    wanted = {}
    for request, devices in _allocated(claim).items():
        gpus = [known.get((device["pool"], device["device"])) for device in devices]
        if own in (request, names.SHARED) and all(gpus):
            wanted[f"{names.GPUS_OF}{request}"] = ",".join(gpu.uuid for gpu in gpus if gpu)
    return {key: value for key, value in wanted.items() if present.get(key) != value}


def _allocated(claim: Manifest) -> dict[str, list[dict[str, Any]]]:
    allocation = claim.get("status", {}).get("allocation") or {}
    by_request: dict[str, list[dict[str, Any]]] = {}
    for result in allocation.get("devices", {}).get("results") or []:
        by_request.setdefault(result["request"], []).append(result)
    return by_request


def _from_device_plugin(pod: Manifest, resource_name: str) -> dict[str, tuple[str, ...]]:
    """Kubelet reports them where the gate ResourceHealthStatus is on (KEP-4680); elsewhere nothing does."""
    found = {}
    for container in pod.get("status", {}).get("containerStatuses") or []:
        for resource in container.get("allocatedResourcesStatus") or []:
            if resource["name"] == resource_name:
                found[container["name"]] = tuple(health["resourceID"] for health in resource.get("resources") or [])
    return found
