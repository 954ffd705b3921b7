"""An imagined cluster around `decide`: children are what was applied, pods are made from their templates."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from phasewatt.controllers.decide import decide
from phasewatt.plan import names
from phasewatt.plan.types import GPU, Inventory, KVTraffic, Manifest, Observed, Outcome, Ref, Settings

INVENTORY = Inventory(
    tuple(
        GPU(node, node, f"gpu-{n}", f"GPU-{node}-{n}", "NVIDIA A100-PCIE-40GB", f"pci0000:{n // 2:02x}")
        for node in ("node-a", "node-b")
        for n in range(4)
    ),
    dra=True,
)

SETTINGS = Settings("engine:1", "router:1")


@dataclass
class Imagined:
    """A cluster with one object. Nothing happens by itself."""

    spec: dict[str, Any]
    inventory: Inventory = INVENTORY
    settings: Settings = SETTINGS
    generation: int = 1
    children: dict[Ref, Manifest] = field(default_factory=dict)
    pods: dict[str, Manifest] = field(default_factory=dict)
    kv: dict[str, KVTraffic] = field(default_factory=dict)
    status: Manifest = field(default_factory=dict)

    def look(self) -> Outcome:
        """One pass: decide, write what was decided, keep the status."""
        outcome = decide(self.observed(), self.settings)
        for manifest in outcome.apply:
            ref = Ref(manifest["kind"], manifest["metadata"]["name"])
            self.children[ref] = {**manifest, **{k: v for k, v in self.children.get(ref, {}).items() if k == "status"}}
        for ref in outcome.delete:
            del self.children[ref]
        for pins in outcome.annotate:
            self.pods[pins.pod]["metadata"]["annotations"].update(pins.annotations)
        self.status = outcome.status
        return outcome

    def observed(self) -> Observed:
        metadata = {"name": "chat", "namespace": "team", "uid": "u", "generation": self.generation}
        return Observed(
            obj={"metadata": metadata, "spec": self.spec, "status": self.status},
            children=dict(self.children),
            pods=tuple(self.pods.values()),
            inventory=self.inventory,
            kv=dict(self.kv),
        )

    def change(self, **spec: Any) -> None:
        self.spec = {**self.spec, **spec}
        self.generation += 1

    def deployments(self) -> dict[str, Manifest]:
        return {ref.name: child for ref, child in self.children.items() if ref.kind == "Deployment"}

    def claims(self) -> list[str]:
        return [ref.name for ref in self.children if ref.kind == "ResourceClaim"]

    def create_pods(self) -> None:
        """What the Deployment controllers would do, at once: pods exactly as the Deployments say."""
        wanted = {f"{name}-pod-{n}": d for name, d in self.deployments().items() for n in range(d["spec"]["replicas"])}
        self.pods = {name: self.pods.get(name) or self._pod(name, d) for name, d in wanted.items()}

    def _pod(self, name: str, deployment: Manifest) -> Manifest:
        template = deployment["spec"]["template"]
        metadata = {
            **template["metadata"],
            "annotations": dict(template["metadata"]["annotations"]),
            "name": name,
            "namespace": "team",
        }
        return {"kind": "Pod", "metadata": metadata, "spec": dict(template["spec"]), "status": {"phase": "Pending"}}

    def schedule(self, node: str = "node-a", gpus: tuple[int, ...] = (0, 1, 2, 3)) -> None:
        """Bind every pod to a node, and allocate every claim from GPUs of that node."""
        for pod in self.pods.values():
            pod["spec"]["nodeName"] = node
        for claim in (child for ref, child in self.children.items() if ref.kind == "ResourceClaim"):
            free = iter(gpus)
            results = [
                {"request": r["name"], "driver": "gpu.nvidia.com", "pool": node, "device": f"gpu-{next(free)}"}
                for r in claim["spec"]["devices"]["requests"]
                for _ in range(r["exactly"]["count"])
            ]
            claim["status"] = {"allocation": {"devices": {"results": results}}}

    def make_ready(self, *parts: str) -> None:
        """Make the pods ready whose name contains one of `parts`; all of them without any."""
        for name, pod in self.pods.items():
            if not parts or any(part in name for part in parts):
                pod["status"] = {
                    "phase": "Running",
                    "conditions": [{"type": "Ready", "status": "True"}],
                    "containerStatuses": [{"name": c["name"], "ready": True} for c in pod["spec"]["containers"]],
                }

    def pod(self, part: str) -> Manifest:
        return next(pod for name, pod in self.pods.items() if part in name)

    def serve(self) -> Imagined:
        """Until everything is up."""
        for _ in range(3):
            self.look()
            self.create_pods()
            self.schedule()
            self.make_ready()
        self.look()
        assert self.condition("Ready")["status"] == "True", self.status
        return self

    def condition(self, type_: str) -> Manifest:
        return next(c for c in self.status["conditions"] if c["type"] == type_)

    def has_condition(self, type_: str) -> bool:
        return any(c["type"] == type_ for c in self.status["conditions"])

    def fail(self, part: str, container: dict[str, Any], *, kind: str = "containerStatuses") -> None:
        """Give a pod a container state as kubelet reports it."""
        pod = self.pod(part)
        name = pod["spec"]["containers"][0]["name"]
        pod["status"] = {"phase": "Pending", kind: [{"name": name, "ready": False, **container}]}

    def unschedulable(self, message: str, part: str = "") -> None:
        scheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
        for name, pod in self.pods.items():
            if part in name and names.ROUTER_ROLE not in name:
                pod["status"] = {"phase": "Pending", "conditions": [scheduled]}


@pytest.fixture
def chat() -> Imagined:
    """The smallest object on two nodes with four GPUs each."""
    return Imagined({"model": {"name": "meta-llama/Llama-3.2-3B-Instruct"}})
