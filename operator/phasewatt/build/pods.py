"""Parts that the pods of engines and routers have in common."""

from __future__ import annotations

from phasewatt.api.v1alpha1 import EnvVar, Resources, Spec
from phasewatt.plan.types import Manifest
from phasewatt.plan.units import seconds

USER = 65532
"""Numeric, so that kubelet can check `runAsNonRoot` without asking the image."""
DEREGISTER_SECONDS = 5
"""Pause before SIGTERM in which Services and routers learn that the pod goes away."""
KILL_MARGIN_SECONDS = 10
"""Between the end of the drain and SIGKILL."""


def restricted_container() -> Manifest:
    """Pod Security level `restricted`, with a read-only root: all that is written goes to volumes."""
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def restricted_pod() -> Manifest:
    """`fsGroup` makes volumes of any kind writable to the one user that all containers run as."""
    return {
        "runAsNonRoot": True,
        "fsGroup": USER,
        # Walking a model cache of many files at each start would take minutes.
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def drain_seconds(spec: Spec) -> int:
    return seconds(spec.rollout.drain_timeout)


def termination(spec: Spec) -> int:
    """terminationGracePeriodSeconds: it contains the pause of preStop, the drain and the margin."""
    return DEREGISTER_SECONDS + drain_seconds(spec) + KILL_MARGIN_SECONDS


def pre_stop() -> Manifest:
    """Kubelet's own sleep: needs no shell in the image."""
    return {"preStop": {"sleep": {"seconds": DEREGISTER_SECONDS}}}


def merged_env(*layers: list[dict[str, object]]) -> list[dict[str, object]]:
    """Environment in which a later layer wins. Names are unique: the API server merges this list by name."""
    merged: dict[object, dict[str, object]] = {}
    for layer in layers:
        for variable in layer:
            merged[variable["name"]] = variable
    return list(merged.values())


def user_env(variables: list[EnvVar]) -> list[dict[str, object]]:
    return [_user_variable(variable) for variable in variables]


def _user_variable(variable: EnvVar) -> dict[str, object]:
    if ref := variable.secret_key_ref:
        return {"name": variable.name, "valueFrom": {"secretKeyRef": {"name": ref.name, "key": ref.key}}}
    return {"name": variable.name, "value": variable.value or ""}


def user_resources(resources: Resources | None) -> Manifest:
    """Requests and limits as the user wrote them; absent ones stay absent."""
    return resources.model_dump(by_alias=True, exclude_none=True) if resources else {}
