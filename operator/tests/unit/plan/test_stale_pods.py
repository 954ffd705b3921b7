"""A pod that is not of its Deployment's revision must be made to go, or its group would wait for ever."""

from __future__ import annotations

from typing import Any

from phasewatt.plan.live import LiveGroup, Wanted, group_state
from phasewatt.plan.rollout import Phase, next_steps

HASH = "phasewatt.io/template-hash"


def deployment(revision: str) -> dict[str, Any]:
    template = {"metadata": {"annotations": {HASH: revision}}}
    return {"metadata": {"name": "x"}, "spec": {"replicas": 1, "template": template}}


def pod(revision: str | None) -> dict[str, Any]:
    status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    return {"metadata": {"name": "x-1", "annotations": {HASH: revision} if revision else {}}, "status": status}


def test_an_engine_whose_pod_lost_its_revision_is_replaced() -> None:
    live = LiveGroup(
        0,
        engines={"e": deployment("a")},
        engine_pods={"e": [pod(None)]},
        router=deployment("r"),
        router_pods=[pod("r")],
    )
    (step,) = next_steps([group_state(0, Wanted({"e": "a"}, "r", None), live)], 1)
    assert step.phase is Phase.STOPPING
    assert step.engines == {"e": 0}
