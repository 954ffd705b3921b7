"""The two Services of an object: the endpoint that clients use, and the DNS names of the engines."""

from __future__ import annotations

from phasewatt.build.labels import Owner, labels, metadata
from phasewatt.plan import names
from phasewatt.plan.types import Manifest


def services(owner: Owner) -> tuple[Manifest, Manifest]:
    return _endpoint(owner), _engines(owner)


def _endpoint(owner: Owner) -> Manifest:
    """Clients' way in: all ready routers of all groups."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(owner, owner.name, labels(owner, names.APP_ROUTER)),
        "spec": {
            "type": "ClusterIP",
            "selector": {names.OBJECT: owner.name, names.ROLE: names.ROUTER_ROLE},
            "ports": [{"name": "http", "port": names.ROUTER_PORT, "targetPort": "http", "protocol": "TCP"}],
        },
    }


def _engines(owner: Owner) -> Manifest:
    """Headless. Names resolve before engines are ready: the routers' own health checks decide who gets requests."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(owner, names.engines_service(owner.name), labels(owner, names.APP_ENGINE)),
        "spec": {
            "type": "ClusterIP",
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {names.OBJECT: owner.name, names.APP_NAME: names.APP_ENGINE},
            "ports": [{"name": "http", "port": names.HTTP_PORT, "targetPort": names.HTTP_PORT, "protocol": "TCP"}],
        },
    }
