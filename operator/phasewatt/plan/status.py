"""The whole status of an object, assembled from what the other modules of this package find."""

from __future__ import annotations

from phasewatt.api.v1alpha1 import (
    Condition,
    EngineStatus,
    GroupStatus,
    KVTransferStatus,
    Role,
    RoleStatus,
    Status,
)
from phasewatt.plan import kv, names
from phasewatt.plan.conditions import Check, checks
from phasewatt.plan.decisions import Refusal
from phasewatt.plan.placement import Placement
from phasewatt.plan.rollout import GroupState, Phase
from phasewatt.plan.situation import Situation
from phasewatt.plan.types import Manifest, Observed, Settings


def assess(situation: Situation, settings: Settings) -> Manifest:
    """The status as the API server takes it, but for the times of transitions."""
    metadata = situation.obj.metadata
    generation = metadata.get("generation")
    serving = sum(situation.phase(state.index) is Phase.READY for state in situation.wanted)
    status = Status(
        observed_generation=generation,
        endpoint=names.endpoint_url(situation.name, metadata["namespace"], settings.cluster_domain),
        ready=f"{serving}/{len(situation.wanted)}",
        replicas=len(situation.wanted),
        ready_replicas=serving,
        selector=f"{names.OBJECT}={situation.name},{names.APP_NAME}={names.APP_ENGINE}",
        router=_router(situation),
        kv_transfer=_kv_transfer(situation),
        groups=[_group(situation, state) for state in situation.states],
        conditions=[Condition.model_validate(check.condition(generation)) for check in checks(situation)],
        **{role.value: _role(situation, role) for role in situation.spec.roles()},
    )
    return status.model_dump(mode="json", by_alias=True, exclude_none=True)


def assess_refused(observed: Observed, refusal: Refusal) -> Manifest:
    """The status of an object that cannot work here: what its children do stays as it was told last."""
    generation = observed.obj["metadata"].get("generation")
    verdicts = (
        Check("Ready", "False", refusal.reason, refusal.message),
        Check("Reconciling", "False", refusal.reason, "Nothing goes on until what Stalled says is changed."),
        Check("Stalled", "True", refusal.reason, refusal.message),
    )
    own = {check.type for check in verdicts}
    previous = observed.obj.get("status") or {}
    others = [c for c in previous.get("conditions") or [] if c["type"] not in own]
    kept = [{key: value for key, value in c.items() if key != "lastTransitionTime"} for c in others]
    conditions = [check.condition(generation) for check in verdicts]
    return {**previous, "observedGeneration": generation, "conditions": [*conditions, *kept]}


def _role(situation: Situation, role: Role) -> RoleStatus:
    engines = [engine for engine in situation.decisions.engines if engine.role is role]
    places = [(state.index, engine) for state in situation.wanted for engine in engines]
    return RoleStatus(
        ready=sum(situation.engine_ready(index, engine) for index, engine in places),
        updated=sum(situation.engine_updated(index, engine) for index, engine in places),
        total=len(places),
    )


def _router(situation: Situation) -> RoleStatus:
    counts = [situation.router_counts(state.index) for state in situation.wanted]
    return RoleStatus(
        ready=sum(ready for ready, _ in counts),
        updated=sum(updated for _, updated in counts),
        total=len(situation.wanted) * situation.spec.router.replicas,
    )


def _kv_transfer(situation: Situation) -> KVTransferStatus | None:
    backend, transport = situation.decisions.backend, situation.decisions.transport
    if backend is None or transport is None:
        return None
    whole = kv.total(situation.traffic())
    seen = whole.requests > 0
    return KVTransferStatus(
        backend=backend.value.value,
        transport=transport.value.value,
        reason=f"{backend.reason} {transport.reason}",
        transferred_tokens=whole.transferred if seen else None,
        recomputed_tokens=whole.recomputed if seen else None,
    )


def _group(situation: Situation, state: GroupState) -> GroupStatus:
    placed = situation.placements.get(state.index) or Placement((), {}, ())
    pairing = situation.decisions.pairing
    return GroupStatus(
        index=state.index,
        ready=state.router.serving,
        phase=situation.phase(state.index).value,
        node=placed.nodes[0] if len(placed.nodes) == 1 else None,
        pairing_satisfied=placed.satisfies(pairing.value if pairing else None),
        engines=_engines(situation, state, placed) if state.wanted else [],
    )


def _engines(situation: Situation, state: GroupState, placed: Placement) -> list[EngineStatus]:
    """A pod is named once it has a node: a pod that waits says so in the conditions."""
    entries = []
    for engine in situation.decisions.engines:
        pod = situation.pod(state.index, engine)
        bound = pod is not None and bool(pod["spec"].get("nodeName"))
        entries.append(
            EngineStatus(
                name=engine.name,
                role=engine.role,
                pod=pod["metadata"]["name"] if pod and bound else None,
                gpus=list(placed.gpus.get(engine.name, ())),
                ready=situation.engine_ready(state.index, engine),
            )
        )
    return entries
