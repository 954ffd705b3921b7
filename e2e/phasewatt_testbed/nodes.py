"""Talks to the nodes of a running cluster: are they alive, which images do they hold, import what they lack."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from phasewatt_testbed.binaries import ensure
from phasewatt_testbed.engine import Engine
from phasewatt_testbed.errors import TestbedError
from phasewatt_testbed.images import Archive
from phasewatt_testbed.shell import run, succeeds

INPUT_LABEL = "phasewatt.io/inputs"
"""containerd label that says from which inputs a node's image was built; a tag alone does not."""

API_TIMEOUT = 10
"""Seconds an API server of an idle cluster on this machine may need to answer."""


@dataclass(frozen=True)
class Node:
    """One node as the API server reports it."""

    name: str
    ready: bool
    control_plane: bool
    kubelet: str
    runtime: str
    gpus: int


def kubectl(kubeconfig: Path, *arguments: str | Path, stdin: str | None = None) -> str:
    """Run the pinned kubectl against a cluster; raises TestbedError when it fails."""
    return run([ensure("kubectl"), f"--kubeconfig={kubeconfig}", *arguments], stdin=stdin)


def list_nodes(kubeconfig: Path) -> list[Node]:
    """Nodes with their readiness and the number of DRA devices each one publishes.

    Raises:
        TestbedError: the API server does not answer.
    """
    timeout = f"--request-timeout={API_TIMEOUT}s"
    nodes = json.loads(kubectl(kubeconfig, "get", "nodes", "-o", "json", timeout))["items"]
    slices = json.loads(kubectl(kubeconfig, "get", "resourceslices.resource.k8s.io", "-o", "json", timeout))["items"]
    devices: dict[str, int] = {}
    for each in slices:
        node = each["spec"].get("nodeName", "")
        devices[node] = devices.get(node, 0) + len(each["spec"].get("devices", []))
    return [_node(item, devices) for item in nodes]


def _node(item: dict[str, object], devices: dict[str, int]) -> Node:
    metadata, status = item["metadata"], item["status"]
    assert isinstance(metadata, dict)
    assert isinstance(status, dict)
    conditions = {each["type"]: each["status"] for each in status.get("conditions", [])}
    info = status["nodeInfo"]
    return Node(
        name=metadata["name"],
        ready=conditions.get("Ready") == "True",
        control_plane="node-role.kubernetes.io/control-plane" in metadata.get("labels", {}),
        kubelet=info["kubeletVersion"],
        runtime=info["containerRuntimeVersion"],
        gpus=devices.get(metadata["name"], 0),
    )


def broken_node(engine: Engine, containers: Iterable[str]) -> str:
    """Name the first container whose node does not run, or nothing.

    The engine's listing alone would call a node "Up" whose processes were killed.
    """
    check = ["systemctl", "is-active", "--quiet", "containerd", "kubelet"]
    with ThreadPoolExecutor() as pool:
        alive = pool.map(
            lambda name: (name, succeeds([engine.name, "exec", name, *check], env=engine.full_environment())),
            containers,
        )
        return next((name for name, good in alive if not good), "")


def load(engine: Engine, containers: list[str], archives: Iterable[Archive]) -> list[tuple[str, str]]:
    """Import into every node the archives it lacks; returns (node, image) for each import that was done.

    Raises:
        TestbedError: an import failed.
    """
    archives = list(archives)
    with ThreadPoolExecutor() as pool:
        held = dict(zip(containers, pool.map(lambda name: _held_inputs(engine, name), containers), strict=True))
        wanted = [(node, archive) for node in containers for archive in archives if archive.key not in held[node]]
        list(pool.map(lambda pair: _import(engine, *pair), wanted))
    return [(node, archive.image.name) for node, archive in wanted]


def _ctr(node: str, *arguments: str) -> list[str]:
    return ["exec", "-i", node, "ctr", "-n", "k8s.io", "images", *arguments]


def _held_inputs(engine: Engine, node: str) -> str:
    return engine(*_ctr(node, "ls"))


def _import(engine: Engine, node: str, archive: Archive) -> None:
    with archive.path.open("rb") as tar:
        done = subprocess.run(
            [engine.name, *_ctr(node, "import", "-")],
            stdin=tar,
            env=engine.full_environment(),
            capture_output=True,
            check=False,
        )
    if done.returncode != 0:
        raise TestbedError(f"importing {archive.image.reference} into {node} failed: {done.stderr.decode().strip()}")
    engine(*_ctr(node, "label", archive.image.reference, f"{INPUT_LABEL}={archive.key}"))
