"""What the node publishes to the scheduler: one ResourceSlice with the attributes of the NVIDIA DRA driver. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from phasewatt_mockgpu import DRIVER_NAME
from phasewatt_mockgpu.health import Ailment, Ailments
from phasewatt_mockgpu.inventory import NodeGpu, NodeGpus

Manifest = dict[str, Any]
UNHEALTHY_TAINT = f"{DRIVER_NAME}/unhealthy"
_BINARY_SUFFIXES = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")


@dataclass(frozen=True)
class SliceChange:
    """Writes that bring the API server to the wanted state; empty when there is nothing to do."""

    create: Manifest | None = None
    replace: Manifest | None = None
    delete: tuple[str, ...] = ()


def slice_name(node: str) -> str:
    """Name of the node's only ResourceSlice: fixed, so that a lost answer to a create cannot leave two."""
    return f"{node}-{DRIVER_NAME}"


def binary_quantity(count: int) -> str:
    """`count` bytes as the API server prints a BinarySI quantity: the largest suffix that leaves a whole number.

    Anything else would be rewritten by the API server and look like a change for ever
    (k8s.io/apimachinery pkg/api/resource, Quantity.CanonicalizeBytes).
    """
    power = 0
    while count % 1024 == 0 and count > 0 and power < len(_BINARY_SUFFIXES) - 1:
        count //= 1024
        power += 1
    return f"{count}{_BINARY_SUFFIXES[power]}"


def device(gpu: NodeGpu, node: NodeGpus, ailment: Ailment | None) -> Manifest:
    """One entry of ResourceSlice.spec.devices.

    Attribute names and types are those of kubernetes-sigs/dra-driver-nvidia-gpu (cmd/gpu-kubelet-plugin/deviceinfo.go);
    the two of domain resource.kubernetes.io are the standard ones (k8s.io/dynamic-resource-allocation/deviceattribute).
    """
    entry: Manifest = {
        "name": gpu.name,
        "attributes": {
            "type": {"string": "gpu"},
            "uuid": {"string": gpu.uuid},
            "productName": {"string": gpu.gpu.product},
            "brand": {"string": gpu.gpu.brand},
            "architecture": {"string": gpu.gpu.architecture},
            "cudaComputeCapability": {"version": gpu.gpu.cuda_compute_capability},
            "driverVersion": {"version": node.driver_version},
            "cudaDriverVersion": {"version": node.cuda_driver_version},
            "resource.kubernetes.io/pciBusID": {"string": gpu.gpu.pci_bus_id},
            "resource.kubernetes.io/pcieRoot": {"string": gpu.gpu.pcie_root},
        },
        "capacity": {"memory": {"value": binary_quantity(gpu.gpu.memory)}},
    }
    if ailment is not None:
        entry["taints"] = [
            {
                "key": UNHEALTHY_TAINT,
                "effect": "NoExecute" if ailment.evict else "NoSchedule",
                "timeAdded": ailment.since.strftime("%Y-%m-%dT%H:%M:%SZ"),
            }
        ]
    return entry


def plan_slices(node: NodeGpus, node_uid: str, ailments: Ailments, existing: Sequence[Manifest]) -> SliceChange:
    """What to write so that the node's DRA share is published exactly once.

    `existing`: all slices of this driver and node. The pool generation grows with every change, which tells the
    scheduler that older slices of the pool are obsolete (k8s.io/api resource/v1, ResourcePool.Generation).
    """
    name = slice_name(node.node)
    present = next((s for s in existing if s["metadata"]["name"] == name), None)
    strangers = tuple(s["metadata"]["name"] for s in existing if s is not present)
    if not node.dra:
        return SliceChange(delete=strangers + ((name,) if present else ()))

    generation = max((s["spec"]["pool"]["generation"] for s in existing), default=0)
    devices = [device(gpu, node, ailments.get(gpu.name)) for gpu in node.dra]
    if present is not None:
        owner_is_current = [o["uid"] for o in present["metadata"].get("ownerReferences", [])] == [node_uid]
        if present["spec"].get("devices") == devices and owner_is_current and not strangers:
            return SliceChange()
        replacement = _slice(node, node_uid, devices, generation + 1)
        replacement["metadata"]["resourceVersion"] = present["metadata"]["resourceVersion"]
        return SliceChange(replace=replacement, delete=strangers)
    return SliceChange(create=_slice(node, node_uid, devices, generation + 1), delete=strangers)


def _slice(node: NodeGpus, node_uid: str, devices: list[Manifest], generation: int) -> Manifest:
    owner = {"apiVersion": "v1", "kind": "Node", "name": node.node, "uid": node_uid, "controller": True}
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceSlice",
        "metadata": {"name": slice_name(node.node), "ownerReferences": [owner]},
        "spec": {
            "driver": DRIVER_NAME,
            "nodeName": node.node,
            "pool": {"name": node.node, "generation": generation, "resourceSliceCount": 1},
            "devices": devices,
        },
    }
