"""One pass over one object, decided: what was observed becomes what to write. Pure; the command line uses it too."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError

from phasewatt.api.v1alpha1 import DisaggregatedInference
from phasewatt.build.desired import Desired, DesiredGroup, desired
from phasewatt.build.labels import Owner
from phasewatt.plan import names
from phasewatt.plan.decisions import Refusal, make_decisions
from phasewatt.plan.live import LiveGroup, Wanted, group_state, live_groups, running, template_hash
from phasewatt.plan.placement import pins
from phasewatt.plan.rollout import GroupState, GroupStep, RouterStep, next_steps
from phasewatt.plan.situation import Situation
from phasewatt.plan.status import assess, assess_refused
from phasewatt.plan.types import Manifest, Observed, Outcome, Ref, Settings


def decide(observed: Observed, settings: Settings) -> Outcome:
    """What to write now for one object, and its whole status.

    An object that cannot work here gets a status that says why, and its children stay as they are.
    """
    try:
        obj = DisaggregatedInference.model_validate(observed.obj)
    except ValidationError as error:
        return Outcome(status=assess_refused(observed, Refusal("InvalidSpec", explain(error))))
    live = live_groups(observed)
    decisions = make_decisions(obj.spec, observed.inventory, running(live, obj.spec.gpus.resource_name))
    if isinstance(decisions, Refusal):
        return Outcome(status=assess_refused(observed, decisions))
    wanted = desired(Owner.of(obj), obj.spec, decisions, settings)
    states = group_states(wanted, live)
    steps = next_steps(states, obj.spec.rollout.max_unavailable)
    return Outcome(
        apply=(*wanted.services, *_applies(wanted, steps)),
        delete=_deletes(obj.metadata["name"], steps),
        annotate=pins(live, observed.inventory) if decisions.whole_claim else (),
        status=assess(Situation.gather(obj, observed, decisions, states, steps, live), settings),
    )


def explain(error: ValidationError) -> str:
    """What is wrong with a spec, field by field, in the field names that users write."""
    lines = []
    for problem in error.errors(include_url=False):
        path = ".".join(str(part) for part in problem["loc"])
        lines.append(f"{path}: {problem['msg']}")
    return "; ".join(lines)


def group_states(wanted: Desired, live: Mapping[int, LiveGroup]) -> tuple[GroupState, ...]:
    """Every group that is wanted or there."""
    by_index = {group.index: group for group in wanted.groups}
    return tuple(
        group_state(index, _wanted(by_index.get(index)), live.get(index) or LiveGroup(index))
        for index in sorted({*by_index, *live})
    )


def _wanted(group: DesiredGroup | None) -> Wanted | None:
    if group is None:
        return None
    hashes = {engine["metadata"]["name"]: template_hash(engine) or "" for engine in group.engines}
    claim = group.claim["metadata"]["name"] if group.claim else None
    return Wanted(hashes, template_hash(group.router) or "", claim)


def _applies(wanted: Desired, steps: tuple[GroupStep, ...]) -> tuple[Manifest, ...]:
    by_index = {group.index: group for group in wanted.groups}
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
