"""One ResourceClaim per group: a request per engine, and where asked one PCIe root for all of them.

Its name carries a hash of its spec, because the spec of a claim is immutable: another wish is another claim.
"""

from __future__ import annotations

from phasewatt.api.v1alpha1 import Allocation, Pairing, Spec
from phasewatt.build.labels import Owner, digest, labels, metadata
from phasewatt.plan import names
from phasewatt.plan.decisions import Decisions
from phasewatt.plan.types import Manifest

PCIE_ROOT = "resource.kubernetes.io/pcieRoot"
"""Standard device attribute (k8s.io/dynamic-resource-allocation/deviceattribute)."""


def claim(owner: Owner, spec: Spec, decisions: Decisions, group: int) -> Manifest | None:
    """The claim of one group; None where GPUs do not come by DRA."""
    if decisions.allocation.value is not Allocation.DRA:
        return None
    devices = _devices(spec, decisions)
    name = names.claim(owner.name, group, digest(devices))
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": metadata(owner, name, labels(owner, names.APP_GPUS, group=str(group))),
        "spec": {"devices": devices},
    }


def _devices(spec: Spec, decisions: Decisions) -> Manifest:
    requests = []
    for engine in decisions.engines:
        exactly: Manifest = {
            "deviceClassName": spec.gpus.device_class_name,
            "allocationMode": "ExactCount",
            "count": engine.gpus,
        }
        if spec.gpus.selectors:
            exactly["selectors"] = [{"cel": {"expression": expression}} for expression in spec.gpus.selectors]
        requests.append({"name": engine.name, "exactly": exactly})
    devices: Manifest = {"requests": requests}
    if decisions.pairing and decisions.pairing.value is Pairing.SAME_PCIE_ROOT:
        devices["constraints"] = [
            {"requests": [engine.name for engine in decisions.engines], "matchAttribute": PCIE_ROOT}
        ]
    return devices
