"""The whole status of an object, assembled from what the other modules of this package find."""

from __future__ import annotations

from collections.abc import Mapping

from phasewatt.api.v1alpha1 import DisaggregatedInference
from phasewatt.plan import names
from phasewatt.plan.decisions import Decisions, Refusal
from phasewatt.plan.live import LiveGroup
from phasewatt.plan.rollout import GroupState, GroupStep, Phase
from phasewatt.plan.topology import group_count
from phasewatt.plan.types import Manifest, Observed, Settings


def assess(
    obj: DisaggregatedInference,
    observed: Observed,
    decisions: Decisions,
    states: tuple[GroupState, ...],
    steps: tuple[GroupStep, ...],
    live: Mapping[int, LiveGroup],
    settings: Settings,
) -> Manifest:
    wanted = group_count(obj.spec)
    ready = sum(step.phase is Phase.READY for step in steps)
    generation = obj.metadata.get("generation")
    ok = ready == wanted
    conditions = [
        ("Ready", ok, "Serving" if ok else "Progressing"),
        ("Reconciling", not ok, "Progressing" if not ok else "Done"),
        ("Stalled", False, "NotStalled"),
    ]
    return {
        "observedGeneration": generation,
        "endpoint": names.endpoint_url(obj.metadata["name"], obj.metadata["namespace"], settings.cluster_domain),
        "ready": f"{ready}/{wanted}",
        "replicas": wanted,
        "readyReplicas": ready,
        "conditions": [
            {"type": t, "status": str(s), "reason": r, "message": "", "observedGeneration": generation}
            for t, s, r in conditions
        ],
    }


def assess_refused(observed: Observed, refusal: Refusal) -> Manifest:
    generation = observed.obj["metadata"].get("generation")
    conditions = [("Ready", False), ("Reconciling", False), ("Stalled", True)]
    return {
        "observedGeneration": generation,
        "conditions": [
            {
                "type": t,
                "status": str(s),
                "reason": refusal.reason,
                "message": refusal.message,
                "observedGeneration": generation,
            }
            for t, s in conditions
        ],
    }
