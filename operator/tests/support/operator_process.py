"""The operator as a process on a real API server, and a stand-in for the kubelets that would run its pods."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from phasewatt.api.v1alpha1 import API_VERSION, KIND, PLURAL
from phasewatt_testbed.bare import BareControlPlane
from phasewatt_testbed.processes import Server, answers, free_ports, wait_until
from prometheus_client.parser import text_string_to_metric_families

DEADLINE = 60.0
"""Seconds that a condition may take on a starved machine."""

Manifest = dict[str, Any]


class OperatorProcess(Server):
    """One operator that serves one namespace of a control plane (none: all)."""

    def __init__(
        self, plane: BareControlPlane, folder: Path, namespace: str = "", *extra: str, kubeconfig: Path | None = None
    ) -> None:
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        scope = [f"--namespaces={namespace}"] if namespace else []
        arguments = [
            *("-m", "phasewatt.controllers.main", f"--kubeconfig={kubeconfig or plane.kubeconfig}"),
            *("--engine-image=engine:1", "--router-image=router:1", f"--http-port={port}", "--log-format=text"),
            *scope,
            *extra,
        ]
        log = folder / "operator.log"
        super().__init__("operator", [sys.executable, *arguments], log=log, ready=lambda: answers(f"{self.url}/readyz"))

    def samples(self, name: str) -> list[tuple[dict[str, str], float]]:
        """Samples of one of its metrics: labels and value."""
        text = httpx.get(f"{self.url}/metrics", trust_env=False).text
        families = text_string_to_metric_families(text)
        return [(s.labels, s.value) for f in families for s in f.samples if s.name == name]

    @property
    def writes(self) -> float:
        return sum(value for _, value in self.samples("phasewatt_api_writes_total"))

    @property
    def passes(self) -> float:
        return sum(value for _, value in self.samples("phasewatt_reconcile_total"))


class Team:
    """One namespace as its users see it."""

    def __init__(self, plane: BareControlPlane, namespace: str) -> None:
        self.plane = plane
        self.namespace = namespace

    def apply(self, name: str, **spec: Any) -> None:
        """Create or edit an object. Without GPUs, unless the spec says otherwise."""
        spec = {"model": {"name": "facebook/opt-125m"}, "gpus": {"allocation": "None"}, **spec}
        metadata = {"name": name, "namespace": self.namespace}
        self.plane.apply({"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": spec})

    def inference(self, name: str) -> Manifest:
        return self.get(f"/apis/{API_VERSION}", PLURAL, name) or {}

    def get(self, root: str, plural: str, name: str) -> Manifest | None:
        answer = self.plane.http.get(f"{root}/namespaces/{self.namespace}/{plural}/{name}")
        return None if answer.status_code == 404 else answer.raise_for_status().json()

    def list(self, root: str, plural: str) -> list[Manifest]:
        answer = self.plane.http.get(f"{root}/namespaces/{self.namespace}/{plural}").raise_for_status()
        return list(answer.json()["items"])

    def delete(self, root: str, plural: str, name: str) -> None:
        self.plane.http.delete(f"{root}/namespaces/{self.namespace}/{plural}/{name}").raise_for_status()

    def deployments(self) -> dict[str, Manifest]:
        return {d["metadata"]["name"]: d for d in self.list("/apis/apps/v1", "deployments")}

    def condition(self, name: str, type_: str) -> Manifest:
        conditions = self.inference(name).get("status", {}).get("conditions", [])
        return next((c for c in conditions if c["type"] == type_), {})

    def is_current(self, name: str, type_: str = "Ready") -> bool:
        """Whether the condition is True and of the newest generation."""
        obj, condition = self.inference(name), self.condition(name, type_)
        generation = obj.get("metadata", {}).get("generation")
        return condition.get("status") == "True" and condition.get("observedGeneration") == generation


def eventually(condition: Callable[[], Any], what: str) -> None:
    """Wait until it holds. Raises TestbedError, which names what did not happen, after the deadline."""
    wait_until(lambda: bool(condition()), DEADLINE, f"not seen: {what}")


@contextmanager
def playing_kubelet(team: Team) -> Iterator[None]:
    """Make every pod of the namespace Running and Ready, as kubelets with working images would."""
    stop = threading.Event()

    def play() -> None:
        while not stop.wait(0.05):
            for pod in team.list("/api/v1", "pods"):
                if pod["status"].get("phase") == "Pending":
                    _start(team, pod)

    thread = threading.Thread(target=play, name="kubelet")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _start(team: Team, pod: Manifest) -> None:
    names = [container["name"] for container in pod["spec"]["containers"]]
    status = {
        "phase": "Running",
        "podIP": "192.0.2.1",
        "conditions": [
            {"type": t, "status": "True"} for t in ("PodScheduled", "Initialized", "ContainersReady", "Ready")
        ],
        "containerStatuses": [
            {
                "name": n,
                "ready": True,
                "started": True,
                "restartCount": 0,
                "image": "i",
                "imageID": "i",
                "state": {"running": {}},
            }
            for n in names
        ],
    }
    path = f"/api/v1/namespaces/{team.namespace}/pods/{pod['metadata']['name']}/status"
    answer = team.plane.http.patch(
        path, json={"status": status}, headers={"Content-Type": "application/merge-patch+json"}
    )
    # A pod that was deleted between the list and this is no failure.
    if answer.status_code not in (404, 409):
        answer.raise_for_status()
