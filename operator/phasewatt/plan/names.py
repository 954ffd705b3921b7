"""Names, labels and annotations of everything an object owns. Derived, never stored: same object, same names.

A name is at most 63 characters because the API refuses objects whose name is longer than 40.
"""

from __future__ import annotations

from phasewatt.api.v1alpha1 import GROUP, Role

MANAGED_BY = "app.kubernetes.io/managed-by"
APP_NAME = "app.kubernetes.io/name"
INSTANCE = "app.kubernetes.io/instance"
OBJECT = f"{GROUP}/object"
GROUP_INDEX = f"{GROUP}/group"
ROLE = f"{GROUP}/role"
ENGINE = f"{GROUP}/engine"

TEMPLATE_HASH = f"{GROUP}/template-hash"
"""On every pod template, and so on every pod: which revision of its template a pod was made from."""
TAKEN_DOWN = f"{GROUP}/taken-down"
"""On a router: a rollout drained it while its group served, so the group counts in maxUnavailable."""
GPUS_OF = f"{GROUP}/gpus."
"""Prefix of the pod annotation that tells an engine its GPUs of the claim, as in `phasewatt.io/gpus.decode-0`."""

MANAGER = "phasewatt"
APP_ENGINE = "phasewatt-engine"
APP_ROUTER = "phasewatt-router"
APP_GPUS = "phasewatt-gpus"
SHARED = "shared"
"""Engine label of a pod that holds all engines of its group."""
ROUTER_ROLE = "router"

HTTP_PORT = 8000
SIDE_CHANNEL_PORT = 5600
ROUTER_PORT = 8000
ROUTER_METRICS_PORT = 29000


def engine(role: Role, index: int) -> str:
    """Name of an engine inside its group; also of its container, its claim's request and its label."""
    return f"{role.value}-{index}"


def group(name: str, index: int) -> str:
    return f"{name}-g{index}"


def engine_deployment(name: str, index: int, engine_name: str) -> str:
    return f"{group(name, index)}-{engine_name}"


def router_deployment(name: str, index: int) -> str:
    return f"{group(name, index)}-router"


def claim(name: str, index: int, digest: str) -> str:
    return f"{group(name, index)}-{digest}"


def engines_service(name: str) -> str:
    """Headless Service that gives every engine pod a stable DNS name."""
    return f"{name}-engines"


def engine_url(name: str, namespace: str, host: str, port: int) -> str:
    """URL of one engine, the same after each restart of its pod.

    Ends in `.svc`, which every pod's resolver completes, so that it holds whatever the cluster's domain is.
    """
    return f"http://{host}.{engines_service(name)}.{namespace}.svc:{port}"


def endpoint_url(name: str, namespace: str, cluster_domain: str) -> str:
    return f"http://{name}.{namespace}.svc.{cluster_domain}:{ROUTER_PORT}"
