"""Everything about one object in one place, gathered once for the checks that make its status."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from phasewatt.api.v1alpha1 import DisaggregatedInference, Pairing, Role, Spec
from phasewatt.plan import names
from phasewatt.plan.decisions import Decisions
from phasewatt.plan.live import LiveGroup, is_ready, is_terminating, label, template_hash
from phasewatt.plan.placement import Placement, placement, pod_of
from phasewatt.plan.problems import Problem, deployment_problem, pod_problems
from phasewatt.plan.rollout import GroupState, GroupStep, Phase
from phasewatt.plan.topology import Engine, deployment_of, gpus_per_group
from phasewatt.plan.types import Inventory, KVTraffic, Manifest, Observed

ROUTER = "router"
NEARNESS = {Pairing.SAME_PCIE_ROOT: " under one PCIe root", Pairing.SAME_NODE: " on one node", Pairing.AUTO: ""}


@dataclass(frozen=True, slots=True)
class Situation:
    """One object, its decisions, and its groups as they are and as they move."""

    obj: DisaggregatedInference
    decisions: Decisions
    states: tuple[GroupState, ...]
    steps: tuple[GroupStep, ...]
    live: Mapping[int, LiveGroup]
    placements: Mapping[int, Placement]
    observed: Observed

    @classmethod
    def gather(
        cls,
        obj: DisaggregatedInference,
        observed: Observed,
        decisions: Decisions,
        states: tuple[GroupState, ...],
        steps: tuple[GroupStep, ...],
        live: Mapping[int, LiveGroup],
    ) -> Situation:
        resource = obj.spec.gpus.resource_name
        placements = {index: placement(group, observed.inventory, resource) for index, group in live.items()}
        return cls(obj, decisions, states, steps, live, placements, observed)

    @property
    def spec(self) -> Spec:
        return self.obj.spec

    @property
    def name(self) -> str:
        return str(self.obj.metadata["name"])

    @property
    def inventory(self) -> Inventory:
        return self.observed.inventory

    @property
    def wanted(self) -> tuple[GroupState, ...]:
        return tuple(state for state in self.states if state.wanted)

    def group(self, index: int) -> LiveGroup:
        return self.live.get(index) or LiveGroup(index)

    def phase(self, index: int) -> Phase:
        return next(step.phase for step in self.steps if step.index == index)

    def deployment(self, index: int, engine: Engine) -> str:
        return deployment_of(self.name, index, self.spec, engine)

    def pod(self, index: int, engine: Engine) -> Manifest | None:
        return pod_of(self.group(index), self.deployment(index, engine))

    def engine_ready(self, index: int, engine: Engine) -> bool:
        """Whether an engine answers requests; in a shared pod each container has its own answer."""
        pod = self.pod(index, engine)
        if pod is None or is_terminating(pod):
            return False
        if label(pod, names.ENGINE) != names.SHARED:
            return is_ready(pod)
        statuses = pod.get("status", {}).get("containerStatuses") or []
        return any(status["name"] == engine.name and status.get("ready") for status in statuses)

    def engine_updated(self, index: int, engine: Engine) -> bool:
        """Whether an engine is of the wanted revision, or about to be created with it."""
        name = self.deployment(index, engine)
        state = next((e for s in self.states if s.index == index for e in s.engines if e.name == name), None)
        return state is not None and not state.changed

    def problems(self, role: Role | str | None = None) -> tuple[Problem, ...]:
        """Problems of wanted groups, those that need someone to act first; `role` narrows them down."""
        found = {p: None for state in self.wanted for p in self._group_problems(state.index, role)}
        return tuple(sorted(found, key=lambda problem: not problem.stalls))

    def _group_problems(self, index: int, role: Role | str | None) -> Iterator[Problem]:
        group = self.group(index)
        if role != ROUTER:
            engines = [e for e in self.decisions.engines if role in (None, e.role)]
            for name in dict.fromkeys(self.deployment(index, engine) for engine in engines):
                yield from self._child_problems(index, name, group.engines.get(name), group.engine_pods.get(name, []))
        if role in (None, ROUTER):
            name = names.router_deployment(self.name, index)
            yield from self._child_problems(index, name, group.router, group.router_pods)

    def _child_problems(
        self, index: int, name: str, deployment: Manifest | None, pods: list[Manifest]
    ) -> Iterator[Problem]:
        if deployment and (refused := deployment_problem(deployment)):
            yield refused
        for pod in pods:
            if is_terminating(pod):
                continue
            for problem in pod_problems(pod, name):
                yield self._waiting_for_gpus(index, problem) if problem.reason == "WaitingForGPUs" else problem

    def _waiting_for_gpus(self, index: int, problem: Problem) -> Problem:
        """The scheduler's message in our words. It speaks of a whole group, whose pods all say the same."""
        needed = gpus_per_group(self.decisions.engines)
        pairing = self.decisions.pairing
        where = NEARNESS[pairing.value] if pairing else ""
        return Problem(
            problem.reason,
            f"Group {index} waits for {needed} free GPU{'s' if needed > 1 else ''}{where}. {self._capacity()} It goes "
            f"on by itself as soon as they are free; or lower replicas, engines or tensorParallelSize. "
            f"The scheduler says: {problem.message}.",
        )

    def _capacity(self) -> str:
        if not self.inventory.gpus:
            return "How many the cluster has is not published."
        nodes = sorted({gpu.node for gpu in self.inventory.gpus})
        counts = ", ".join(f"{sum(gpu.node == node for gpu in self.inventory.gpus)} on {node}" for node in nodes[:8])
        return (
            f"The cluster has {len(self.inventory.gpus)} in all, free or not: {counts}{', ...' if nodes[8:] else ''}."
        )

    def traffic(self) -> Mapping[str, KVTraffic]:
        """KV traffic by the Deployment of each decode engine, whose name outlives its pods."""
        traffic: dict[str, KVTraffic] = {}
        for group in self.live.values():
            for name, pods in group.engine_pods.items():
                for pod in pods:
                    if part := self.observed.kv.get(pod["metadata"]["name"]):
                        traffic[name] = part
        return traffic

    def router_counts(self, index: int) -> tuple[int, int]:
        """Ready router pods of a group, and those of them that are of the live template."""
        group = self.group(index)
        ready = [pod for pod in group.router_pods if is_ready(pod)]
        current = template_hash(group.router) if group.router else None
        annotations = [pod["metadata"].get("annotations") or {} for pod in ready]
        return len(ready), sum(found.get(names.TEMPLATE_HASH) == current for found in annotations)
