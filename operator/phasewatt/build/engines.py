"""Deployments of a group's engines: one per engine, or one for all of them where they share a pod.

One replica each with strategy Recreate: the cluster restarts an engine without us, and a change needs no spare GPU.
"""

from __future__ import annotations

from collections.abc import Sequence

from phasewatt.api.v1alpha1 import Allocation, Pairing, PodLayout, Spec, Transport
from phasewatt.build.container import START_SECONDS, engine_container, model_mounts, pins_mount, wait_for_pins
from phasewatt.build.labels import Owner, labels, metadata, with_template_hash
from phasewatt.build.pods import restricted_pod, termination
from phasewatt.plan import names
from phasewatt.plan.decisions import Decisions
from phasewatt.plan.topology import Engine, deployment_of
from phasewatt.plan.types import Manifest, Settings


def engine_deployments(
    owner: Owner, spec: Spec, decisions: Decisions, settings: Settings, group: int, claim: str | None
) -> tuple[Manifest, ...]:
    """All engine Deployments of one group, prefill first."""
    shared = spec.pod_layout is PodLayout.SHARED_POD
    pods = [decisions.engines] if shared else [(engine,) for engine in decisions.engines]
    return tuple(_deployment(owner, spec, decisions, settings, group, claim, tuple(engines)) for engines in pods)


def _deployment(
    owner: Owner,
    spec: Spec,
    decisions: Decisions,
    settings: Settings,
    group: int,
    claim: str | None,
    engines: tuple[Engine, ...],
) -> Manifest:
    name = deployment_of(owner.name, group, spec, engines[0])
    own_labels = _labels(owner, spec, group, engines)
    template = {
        "metadata": {"labels": dict(own_labels)},
        "spec": _pod(owner, spec, decisions, settings, group, claim, engines),
    }
    selector = {key: own_labels[key] for key in (names.OBJECT, names.GROUP_INDEX, names.ENGINE)}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(owner, name, own_labels),
        "spec": {
            # Ours to say: a paused Deployment would bring the old revision back for ever.
            "paused": False,
            "replicas": 1,
            "revisionHistoryLimit": 1,
            "progressDeadlineSeconds": START_SECONDS + 600,
            "selector": {"matchLabels": selector},
            "strategy": {"type": "Recreate"},
            "template": with_template_hash(template),
        },
    }


def _labels(owner: Owner, spec: Spec, group: int, engines: tuple[Engine, ...]) -> dict[str, str]:
    if spec.pod_layout is PodLayout.SHARED_POD:
        return labels(owner, names.APP_ENGINE, group=str(group), engine=names.SHARED)
    (engine,) = engines
    return labels(owner, names.APP_ENGINE, group=str(group), role=engine.role.value, engine=engine.name)


def _pod(
    owner: Owner,
    spec: Spec,
    decisions: Decisions,
    settings: Settings,
    group: int,
    claim: str | None,
    engines: tuple[Engine, ...],
) -> Manifest:
    optional: Manifest = {
        "affinity": _affinity(owner, decisions, group),
        "hostPID": _needs_host_pid(spec, decisions),
        "imagePullSecrets": [{"name": name} for name in spec.engine.image_pull_secrets],
        "initContainers": [wait_for_pins(spec, settings, engines)] if decisions.whole_claim else [],
        "nodeSelector": spec.engine.node_selector,
        "resourceClaims": [{"name": "gpus", "resourceClaimName": claim}] if claim else [],
        "serviceAccountName": spec.engine.service_account_name,
        "shareProcessNamespace": spec.pod_layout is PodLayout.SHARED_POD,
        "tolerations": [t.model_dump(by_alias=True, exclude_none=True) for t in spec.engine.tolerations],
    }
    return {
        "automountServiceAccountToken": False,
        "containers": [engine_container(spec, decisions, settings, engine) for engine in engines],
        # vLLM reads VLLM_*_PORT, which a Service named vllm-* would inject.
        "enableServiceLinks": False,
        "hostname": deployment_of(owner.name, group, spec, engines[0]),
        "securityContext": restricted_pod(),
        "subdomain": names.engines_service(owner.name),
        "terminationGracePeriodSeconds": termination(spec),
        "volumes": _volumes(spec, decisions, engines),
        **{key: value for key, value in optional.items() if value},
    }


def _needs_host_pid(spec: Spec, decisions: Decisions) -> bool:
    """CUDA IPC handles open only inside one process namespace (openucx/ucx#11978); two pods share only the host's."""
    by_cuda_ipc = decisions.transport is not None and decisions.transport.value is Transport.CUDA_IPC
    return by_cuda_ipc and spec.pod_layout is PodLayout.SEPARATE_PODS


def _affinity(owner: Owner, decisions: Decisions, group: int) -> Manifest | None:
    """A claim is allocated on one node as a whole. A device plugin knows no groups: affinity joins them."""
    same_node = decisions.pairing is not None and decisions.pairing.value is Pairing.SAME_NODE
    if decisions.allocation.value is not Allocation.DEVICE_PLUGIN or not same_node:
        return None
    group_labels = {names.OBJECT: owner.name, names.GROUP_INDEX: str(group), names.APP_NAME: names.APP_ENGINE}
    term = {"labelSelector": {"matchLabels": group_labels}, "topologyKey": "kubernetes.io/hostname"}
    return {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}


def _volumes(spec: Spec, decisions: Decisions, engines: Sequence[Engine]) -> list[Manifest]:
    volumes: list[Manifest] = [
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": spec.engine.shared_memory}},
        {"name": "home", "emptyDir": {}},
        {"name": "tmp", "emptyDir": {}},
        *(volume for volume, _ in model_mounts(spec)),
    ]
    if decisions.whole_claim:
        volumes.append(pins_mount(engines))
    return volumes
