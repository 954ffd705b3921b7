"""From an object and what is there to what is written and what status says."""

from __future__ import annotations

import json
from typing import Any

import pytest
from phasewatt.plan.types import Inventory, KVTraffic, Ref


def test_a_plain_start_shows_few_distinct_statuses(chat: Any):
    seen: list[str] = []

    def look() -> None:
        chat.look()
        text = json.dumps(chat.status, sort_keys=True)
        if not seen or seen[-1] != text:
            seen.append(text)

    look()
    look()
    chat.create_pods()
    look()
    chat.schedule()
    look()
    chat.make_ready("prefill", "decode")
    look()
    chat.make_ready("router")
    look()
    look()
    assert len(seen) == 4
    assert chat.status["ready"] == "1/1"


def test_status_of_a_group_that_serves(chat: Any):
    chat.serve()
    assert chat.status["groups"] == [
        {
            "index": 0,
            "ready": True,
            "phase": "Ready",
            "node": "node-a",
            "pairingSatisfied": True,
            "engines": [
                {
                    "name": "prefill-0",
                    "role": "prefill",
                    "pod": "chat-g0-prefill-0-pod-0",
                    "gpus": ["GPU-node-a-0"],
                    "ready": True,
                },
                {
                    "name": "decode-0",
                    "role": "decode",
                    "pod": "chat-g0-decode-0-pod-0",
                    "gpus": ["GPU-node-a-1"],
                    "ready": True,
                },
            ],
        }
    ]
    assert chat.status["endpoint"] == "http://chat.team.svc.cluster.local:8000"
    assert chat.status["prefill"] == {"ready": 1, "updated": 1, "total": 1}
    assert {c["type"]: c["status"] for c in chat.status["conditions"]} == {
        "Ready": "True",
        "Reconciling": "False",
        "Stalled": "False",
        "PrefillAvailable": "True",
        "DecodeAvailable": "True",
        "RouterAvailable": "True",
        "PlacementSatisfied": "True",
        "KVTransferVerified": "Unknown",
    }


def test_engines_under_two_roots_are_apart(chat: Any):
    chat.serve()
    chat.schedule(gpus=(0, 2))
    chat.look()
    assert chat.condition("PlacementSatisfied")["reason"] == "Apart"
    assert chat.status["groups"][0]["pairingSatisfied"] is False


def test_all_children_of_a_serving_object_are_offered_each_pass_so_that_drift_is_undone(chat: Any):
    chat.serve()
    outcome = chat.look()
    assert {Ref(m["kind"], m["metadata"]["name"]) for m in outcome.apply} == set(chat.children)
    assert outcome.delete == ()


def test_a_rollout_keeps_the_old_revision_until_the_group_is_drained(chat: Any):
    chat.serve()
    before = chat.deployments()["chat-g0-prefill-0"]["spec"]["template"]
    chat.change(engine={"maxModelLen": 4096})
    chat.look()
    assert chat.deployments()["chat-g0-router"]["spec"]["replicas"] == 0
    assert chat.deployments()["chat-g0-prefill-0"]["spec"]["template"] == before
    assert chat.condition("Ready")["reason"] == "RollingOut"
    chat.create_pods()
    chat.look()
    assert chat.deployments()["chat-g0-prefill-0"]["spec"]["template"] != before
    chat.serve()


def test_a_change_of_gpus_names_a_new_claim_and_drops_the_old_one(chat: Any):
    chat.serve()
    (old,) = chat.claims()
    chat.change(prefill={"tensorParallelSize": 2})
    for _ in range(5):
        chat.look()
        chat.create_pods()
    assert old not in chat.claims()
    assert len(chat.claims()) == 1
    chat.serve()


def test_suspend_removes_everything_but_the_services(chat: Any):
    chat.serve()
    chat.change(suspend=True)
    chat.look()
    assert "finish their requests" in chat.condition("Ready")["message"]
    for _ in range(4):
        chat.look()
        chat.create_pods()
    assert {ref.kind for ref in chat.children} == {"Service"}
    assert chat.condition("Ready")["reason"] == "Suspended"
    assert "GPUs are free" in chat.condition("Ready")["message"]
    assert chat.condition("Reconciling")["status"] == "False"


@pytest.mark.parametrize("gone", ["chat", "chat-engines", "chat-g0-prefill-0", "chat-g0-decode-0", "chat-g0-router"])
def test_a_deleted_child_is_back_in_the_next_pass(chat: Any, gone: str):
    chat.serve()
    ref = next(ref for ref in chat.children if ref.name == gone)
    del chat.children[ref]
    assert gone in {m["metadata"]["name"] for m in chat.look().apply}


def test_gpus_that_are_not_published_for_a_while_restart_nothing(chat: Any):
    chat.serve()
    before = chat.deployments()
    chat.inventory = Inventory()
    chat.look()
    assert chat.deployments() == before
    assert chat.condition("Ready")["status"] == "True"


def test_an_object_that_cannot_work_here_keeps_its_children_and_says_why(chat: Any):
    chat.serve()
    children = dict(chat.children)
    chat.change(kvTransfer={"nixl": {"transport": "CudaIPC"}})
    outcome = chat.look()
    assert outcome.apply == outcome.delete == ()
    assert chat.children == children
    assert chat.condition("Stalled")["status"] == "True"
    assert "SharedPod" in chat.condition("Stalled")["message"]
    assert chat.status["observedGeneration"] == 2
    assert chat.has_condition("PrefillAvailable")


def test_an_invalid_object_names_the_field(chat: Any):
    chat.change(replicas="many")
    chat.look()
    assert chat.condition("Stalled")["reason"] == "InvalidSpec"
    assert "spec.replicas: " in chat.condition("Stalled")["message"]


@pytest.mark.parametrize("layout", [{"podLayout": "SharedPod"}, {"security": {"allowHostPID": True}}])
def test_engines_that_see_the_whole_claim_are_told_their_gpus(chat: Any, layout: dict[str, Any]):
    chat.change(**layout)
    chat.look()
    chat.create_pods()
    assert chat.look().annotate == ()
    chat.schedule()
    chat.look()
    told = {k: v for pod in chat.pods.values() for k, v in pod["metadata"]["annotations"].items() if "/gpus." in k}
    assert told == {"phasewatt.io/gpus.prefill-0": "GPU-node-a-0", "phasewatt.io/gpus.decode-0": "GPU-node-a-1"}
    assert chat.look().annotate == ()


def test_an_engine_in_a_pod_of_its_own_is_told_only_its_own_gpus(chat: Any):
    chat.change(security={"allowHostPID": True})
    chat.serve()
    told = {key for key in chat.pod("decode")["metadata"]["annotations"] if "/gpus." in key}
    assert told == {"phasewatt.io/gpus.decode-0"}


def test_a_shared_pod_reports_each_engine_by_its_container(chat: Any):
    chat.change(podLayout="SharedPod")
    chat.serve()
    chat.pod("chat-g0-pod")["status"]["containerStatuses"][1]["ready"] = False
    chat.look()
    assert [engine["ready"] for engine in chat.status["groups"][0]["engines"]] == [True, False]


def test_gpus_of_a_device_plugin_are_shown_where_kubelet_tells_them(chat: Any):
    chat.inventory = Inventory()
    chat.serve()
    health = {"resourceID": "GPU-7", "health": "Healthy"}
    chat.pod("prefill")["status"]["containerStatuses"][0]["allocatedResourcesStatus"] = [
        {"name": "nvidia.com/gpu", "resources": [health]}
    ]
    chat.look()
    assert chat.status["groups"][0]["engines"][0]["gpus"] == ["GPU-7"]
    assert chat.condition("PlacementSatisfied")["status"] == "True"


def test_kv_traffic_reaches_the_status(chat: Any):
    chat.serve()
    chat.kv = {"chat-g0-decode-0-pod-0": KVTraffic(requests=2, transferred=2048, bytes=4e9, seconds=2.0)}
    chat.look()
    assert chat.condition("KVTransferVerified")["status"] == "True"
    assert chat.status["kvTransfer"]["transferredTokens"] == 2048


def test_colocated_engines_have_no_kv_condition(chat: Any):
    chat.change(mode="Colocated")
    chat.serve()
    assert not chat.has_condition("KVTransferVerified")
    assert chat.has_condition("EnginesAvailable")
    assert "kvTransfer" not in chat.status
