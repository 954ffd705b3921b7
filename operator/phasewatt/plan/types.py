"""What one pass over one object knows, and what it decides. Plain frozen data: no I/O, no clock, no Kopf.

Data flows one way: `Observed` -> decide -> `Outcome`. The shell that observes and applies holds no opinion.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

Manifest = dict[str, Any]


class Ref(NamedTuple):
    """A namespaced child: `kind` is one of Deployment, Service, ResourceClaim."""

    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class Settings:
    """Operator-wide defaults, from the chart's values."""

    engine_image: str
    router_image: str
    image_pull_policy: str = "IfNotPresent"
    cluster_domain: str = "cluster.local"


@dataclass(frozen=True, slots=True)
class GPU:
    """One device of a ResourceSlice."""

    node: str
    pool: str
    device: str
    uuid: str
    product: str = ""
    pcie_root: str = ""


@dataclass(frozen=True, slots=True)
class Inventory:
    """GPUs that DRA drivers publish. `dra` is False where the cluster serves no resource.k8s.io/v1 or no such slice."""

    gpus: tuple[GPU, ...] = ()
    dra: bool = False


@dataclass(frozen=True, slots=True)
class KVTraffic:
    """What one decode engine's counters say of the KV cache over the window; tokens are prompt tokens.

    `transferred` came from the prefill engine, `recomputed` was computed locally, `cached` came from the engine's own
    prefix cache.
    """

    requests: int = 0
    transferred: int = 0
    recomputed: int = 0
    cached: int = 0
    failed_transfers: int = 0
    bytes: float = 0.0
    seconds: float = 0.0
    block_size: int = 16


@dataclass(frozen=True, slots=True)
class Observed:
    """All that one pass knows, as the API server returned it (manifests may lack managedFields)."""

    obj: Manifest
    children: Mapping[Ref, Manifest] = field(default_factory=dict)
    pods: tuple[Manifest, ...] = ()
    inventory: Inventory = Inventory()
    kv: Mapping[str, KVTraffic] = field(default_factory=dict)
    """Traffic by decode engine pod name; a pod that was not scraped yet is absent."""


class PodAnnotations(NamedTuple):
    """Annotations to merge into a live pod (the GPU pins of a whole-claim engine)."""

    pod: str
    annotations: dict[str, str]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What to do now. `apply` is ordered and holds only what should be written in this pass: the shell skips manifests
    that are already as wanted. `delete` names children that are no longer wanted *and* may go now.

    `status` is the whole status but for the conditions' lastTransitionTime, which `stamp` fills in.
    """

    apply: tuple[Manifest, ...] = ()
    delete: tuple[Ref, ...] = ()
    annotate: tuple[PodAnnotations, ...] = ()
    status: Manifest = field(default_factory=dict)
    requeue_after: float | None = None
    """Seconds after which to look again even if nothing happens; None where events alone suffice."""


def stamp(status: Manifest, previous: Manifest, now: datetime) -> Manifest:
    """Fill lastTransitionTime in: kept from `previous` while a condition's status stays, `now` when it flips.

    Source: Kubernetes API conventions, "Typical status properties".
    """
    before = {c["type"]: c for c in previous.get("conditions", [])}
    moment = now.strftime("%Y-%m-%dT%H:%M:%SZ")

    def since(condition: Manifest) -> str:
        old = before.get(condition["type"])
        return str(old["lastTransitionTime"]) if old and old["status"] == condition["status"] else moment

    conditions = [{**c, "lastTransitionTime": since(c)} for c in status.get("conditions", [])]
    return {**status, "conditions": conditions}
