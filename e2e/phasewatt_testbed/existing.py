"""Checks a cluster that somebody else made: can the suite run on it?"""

from __future__ import annotations

import json
import re
from pathlib import Path

from phasewatt_testbed.errors import TestbedError
from phasewatt_testbed.nodes import Node, kubectl, list_nodes

MINIMUM_MINOR = 34
"""`resource.k8s.io/v1` is served by default from Kubernetes 1.34 on."""


def verify(kubeconfig: Path) -> list[Node]:
    """Return the nodes of a usable cluster.

    Raises:
        TestbedError: it does not answer, is too old, or a node cannot inject devices; says which and what is needed.
    """
    if not kubeconfig.exists():
        raise TestbedError(f"{kubeconfig} does not exist")
    version = json.loads(kubectl(kubeconfig, "version", "-o", "json"))["serverVersion"]
    minor = int(re.match(r"\d+", version["minor"])[0])  # type: ignore[index]
    if minor < MINIMUM_MINOR:
        raise TestbedError(f"the cluster is {version['gitVersion']}; it must be 1.{MINIMUM_MINOR} or newer for DRA")
    nodes = list_nodes(kubeconfig)
    if problems := [problem for node in nodes if (problem := node_problem(node))]:
        raise TestbedError("; ".join(problems))
    return nodes


def node_problem(node: Node) -> str:
    """Why a node cannot take part, or nothing."""
    if not node.ready:
        return f"node {node.name} is not Ready"
    match = re.match(r"containerd://v?(\d+)\.", node.runtime)
    if match and int(match[1]) < 2:
        # Without CDI a pod with a claim runs, nothing is injected, and nothing says so.
        return f"node {node.name} runs {node.runtime}; containerd 2.0 or newer is needed to inject devices"
    return ""
