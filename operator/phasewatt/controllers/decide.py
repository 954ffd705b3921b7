"""One pass over one object, decided: what was observed becomes what to write. Pure; the command line uses it too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from phasewatt.api.v1alpha1 import DisaggregatedInference
from phasewatt.build.desired import Desired, DesiredGroup, desired
from phasewatt.build.labels import Owner
from phasewatt.plan import names
from phasewatt.plan.decisions import Decisions, Refusal, make_decisions
from phasewatt.plan.live import LiveGroup, Wanted, group_state, live_groups, running, template_hash
from phasewatt.plan.placement import pins
from phasewatt.plan.rollout import GroupState, GroupStep, RouterStep, next_steps
from phasewatt.plan.situation import Situation
from phasewatt.plan.status import assess, assess_refused
from phasewatt.plan.types import Manifest, Observed, Outcome, Ref, Settings


@dataclass(frozen=True, slots=True)
class Resolution:
    """What an object comes down to on this cluster: everything decided, and its children as they should end up."""

    obj: DisaggregatedInference
    live: Mapping[int, LiveGroup]
    decisions: Decisions
    children: Desired

    def wanted(self) -> dict[int, Wanted]:
        """The end state, by group, as the rollout planner compares it."""
        return {group.index: _wanted(group) for group in self.children.groups}


def decide(observed: Observed, settings: Settings) -> Outcome:
    """What to write now for one object, and its whole status.

    An object that cannot work here gets a status that says why, and its children stay as they are.
    """
    resolution = resolve(observed, settings)
    if isinstance(resolution, Refusal):
        return Outcome(status=assess_refused(observed, resolution))
    obj, live, decisions = resolution.obj, resolution.live, resolution.decisions
    states = _group_states(resolution)
    steps = next_steps(states, obj.spec.rollout.max_unavailable)
    return Outcome(
        apply=(*resolution.children.services, *_applies(resolution.children, steps)),
        delete=_deletes(obj.metadata["name"], steps),
        annotate=pins(live, observed.inventory) if decisions.whole_claim else (),
        status=assess(Situation.gather(obj, observed, decisions, states, steps, live), settings),
    )


def resolve(observed: Observed, settings: Settings) -> Resolution | Refusal:
    """Decide what the object leaves open and build its children, or say why it cannot work here."""
    try:
        obj = DisaggregatedInference.model_validate(observed.obj)
    except ValidationError as error:
        return Refusal("InvalidSpec", explain(error))
    live = live_groups(observed)
    decisions = make_decisions(obj.spec, observed.inventory, running(live, obj.spec.gpus.resource_name))
    if isinstance(decisions, Refusal):
        return decisions
    return Resolution(obj, live, decisions, desired(Owner.of(obj), obj.spec, decisions, settings))


def explain(error: ValidationError) -> str:
    """What is wrong with a spec, field by field, in the field names that users write."""
    problems = [(".".join(str(part) for part in problem["loc"]), problem["msg"]) for problem in error.errors()]
    return "; ".join(f"{path}: {text}" for path, text in problems)


def _group_states(resolution: Resolution) -> tuple[GroupState, ...]:
    """Every group that is wanted or there."""
    wanted, live = resolution.wanted(), resolution.live
    return tuple(
        group_state(index, wanted.get(index), live.get(index) or LiveGroup(index)) for index in sorted({*wanted, *live})
    )


def _wanted(group: DesiredGroup) -> Wanted:
    hashes = {engine["metadata"]["name"]: template_hash(engine) or "" for engine in group.engines}
    claim = group.claim["metadata"]["name"] if group.claim else None
    return Wanted(hashes, template_hash(group.router) or "", claim)


def _applies(children: Desired, steps: tuple[GroupStep, ...]) -> tuple[Manifest, ...]:
    by_index = {group.index: group for group in children.groups}
    return tuple(
        manifest for step in steps if (group := by_index.get(step.index)) for manifest in _apply_group(group, step)
    )


def _apply_group(group: DesiredGroup, step: GroupStep) -> list[Manifest]:
    manifests: list[Manifest] = [group.claim] if step.apply_claim and group.claim else []
    for engine in group.engines:
        replicas = step.engines.get(engine["metadata"]["name"])
        if replicas is not None:
            manifests.append(_with_replicas(engine, replicas))
    if step.router is not RouterStep.LEAVE:
        router = group.router if step.router is RouterStep.SERVE else _with_replicas(group.router, 0)
        manifests.append(_with_mark(router) if step.taken_down else router)
    return manifests


def _with_replicas(deployment: Manifest, replicas: int) -> Manifest:
    return {**deployment, "spec": {**deployment["spec"], "replicas": replicas}}


def _with_mark(router: Manifest) -> Manifest:
    metadata = router["metadata"]
    annotations = {**metadata.get("annotations", {}), names.TAKEN_DOWN: "true"}
    return {**router, "metadata": {**metadata, "annotations": annotations}}


def _deletes(name: str, steps: tuple[GroupStep, ...]) -> tuple[Ref, ...]:
    """Highest group first."""
    refs: list[Ref] = []
    for step in sorted(steps, key=lambda step: step.index, reverse=True):
        if step.delete_router:
            refs.append(Ref("Deployment", names.router_deployment(name, step.index)))
        refs += [Ref("Deployment", engine) for engine in step.delete_engines]
        refs += [Ref("ResourceClaim", claim) for claim in step.delete_claims]
    return tuple(refs)
