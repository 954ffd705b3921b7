"""What the children and pods of an object show, sorted by group: the world as the planner and the status see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from phasewatt.api.v1alpha1 import Allocation, Pairing
from phasewatt.plan import names
from phasewatt.plan.decisions import Running
from phasewatt.plan.rollout import ClaimState, EngineState, GroupState, RouterState
from phasewatt.plan.types import Manifest, Observed


@dataclass(slots=True)
class LiveGroup:
    """Children and pods of one group. Pods are keyed by the Deployment that they belong to."""

    index: int
    engines: dict[str, Manifest] = field(default_factory=dict)
    engine_pods: dict[str, list[Manifest]] = field(default_factory=dict)
    router: Manifest | None = None
    router_pods: list[Manifest] = field(default_factory=list)
    claims: dict[str, Manifest] = field(default_factory=dict)


class Wanted(NamedTuple):
    """What a group should consist of: template hashes by Deployment, and the claim's name."""

    engines: Mapping[str, str]
    router: str
    claim: str | None


def label(manifest: Manifest, key: str) -> str:
    return str((manifest["metadata"].get("labels") or {}).get(key, ""))


def template_hash(deployment: Manifest) -> str | None:
    """The revision of a Deployment's pod template; None where something else made it."""
    return _annotation(deployment.get("spec", {}).get("template", {}), names.TEMPLATE_HASH)


def revision(pod: Manifest) -> str | None:
    """The template revision that a pod was made from."""
    return _annotation(pod, names.TEMPLATE_HASH)


def is_alive(pod: Manifest) -> bool:
    """Whether a pod holds, or will hold, GPUs and ports; one that is being stopped does, an evicted one does not."""
    return pod.get("status", {}).get("phase") not in ("Succeeded", "Failed")


def is_terminating(manifest: Manifest) -> bool:
    return "deletionTimestamp" in manifest["metadata"]


def is_ready(pod: Manifest) -> bool:
    """Whether a pod is Ready and stays: one that is being stopped gets no new requests."""
    conditions = pod.get("status", {}).get("conditions") or []
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
    return ready and not is_terminating(pod)


def live_groups(observed: Observed) -> dict[int, LiveGroup]:
    """Everything that belongs to a group, by the group's index."""
    groups: dict[int, LiveGroup] = {}

    def group_of(manifest: Manifest) -> LiveGroup | None:
        index = label(manifest, names.GROUP_INDEX)
        return groups.setdefault(int(index), LiveGroup(int(index))) if index.isdigit() else None

    for ref, child in observed.children.items():
        group = group_of(child)
        if group is None:
            continue
        if ref.kind == "ResourceClaim":
            group.claims[ref.name] = child
        elif label(child, names.ROLE) == names.ROUTER_ROLE:
            group.router = child
        elif ref.kind == "Deployment":
            group.engines[ref.name] = child
    name = observed.obj["metadata"]["name"]
    for pod in filter(is_alive, observed.pods):
        if (group := group_of(pod)) is None:
            continue
        if label(pod, names.ROLE) == names.ROUTER_ROLE:
            group.router_pods.append(pod)
        else:
            group.engine_pods.setdefault(_deployment_of(name, group.index, pod), []).append(pod)
    return groups


def running(groups: Mapping[int, LiveGroup], resource_name: str) -> Running:
    """Earlier decisions that live children stand for."""
    for _, group in sorted(groups.items()):
        for _, claim in sorted(group.claims.items()):
            devices = claim["spec"]["devices"]
            requests = tuple((r["name"], int(r["exactly"].get("count", 1))) for r in devices["requests"])
            pairing = Pairing.SAME_PCIE_ROOT if devices.get("constraints") else Pairing.SAME_NODE
            return Running(Allocation.DRA, pairing, requests)
    for _, group in sorted(groups.items()):
        for _, deployment in sorted(group.engines.items()):
            if allocation := _allocation_of(deployment, resource_name):
                return Running(allocation)
    return Running()


def group_state(index: int, wanted: Wanted | None, live: LiveGroup) -> GroupState:
    """One group as the planner sees it; `wanted` is None for a surplus one."""
    hashes = wanted.engines if wanted else {}
    engine_names = [*hashes, *sorted({*live.engines, *live.engine_pods} - set(hashes))]
    return GroupState(
        index=index,
        wanted=wanted is not None,
        engines=tuple(_engine_state(name, hashes.get(name), live) for name in engine_names),
        router=_router_state(live),
        claim=wanted.claim if wanted else None,
        claims=tuple(ClaimState(name, is_terminating(claim)) for name, claim in sorted(live.claims.items())),
    )


def _engine_state(name: str, wanted: str | None, live: LiveGroup) -> EngineState:
    deployment = live.engines.get(name)
    pods = live.engine_pods.get(name, [])
    current = [pod for pod in pods if revision(pod) == wanted]
    return EngineState(
        name=name,
        wanted=wanted,
        # A Deployment without our hash was made or changed by someone else: never equal to what is wanted.
        live=(template_hash(deployment) or "foreign") if deployment else None,
        replicas=_replicas(deployment),
        pods=len(pods),
        stale_pods=len(pods) - len(current),
        ready=any(is_ready(pod) for pod in current),
    )


def _router_state(live: LiveGroup) -> RouterState:
    router = live.router
    return RouterState(
        exists=router is not None,
        replicas=_replicas(router),
        pods=len(live.router_pods),
        ready=any(is_ready(pod) for pod in live.router_pods),
        taken_down=router is not None and _annotation(router, names.TAKEN_DOWN) is not None,
    )


def _replicas(deployment: Manifest | None) -> int:
    return int(deployment["spec"].get("replicas", 1)) if deployment else 0


def _annotation(manifest: Manifest, key: str) -> str | None:
    annotations = manifest.get("metadata", {}).get("annotations") or {}
    return str(annotations[key]) if key in annotations else None


def _deployment_of(name: str, index: int, pod: Manifest) -> str:
    engine = label(pod, names.ENGINE)
    return names.group(name, index) if engine == names.SHARED else names.engine_deployment(name, index, engine)


def _allocation_of(deployment: Manifest, resource_name: str) -> Allocation | None:
    pod = deployment["spec"]["template"]["spec"]
    if pod.get("resourceClaims"):
        return Allocation.DRA
    limits = [container.get("resources", {}).get("limits") or {} for container in pod["containers"]]
    return Allocation.DEVICE_PLUGIN if any(resource_name in limit for limit in limits) else None
