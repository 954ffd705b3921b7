"""Apply, be served, see the KV cache move, delete: the life of one object on simulated engines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from phasewatt_suite.cluster import Cluster, until
from phasewatt_suite.objects import inference
from phasewatt_suite.serving import Served, pod_metrics, total

Serve = Callable[..., Served]

PROMPT = "the cache of keys and values moves from one engine to the other " * 8


def engines(cluster: Cluster, served: Served) -> dict[str, Any]:
    status = cluster.get("dinf", served.name, served.namespace)["status"]
    return {e["name"]: {**e, "node": g["node"]} for g in status["groups"] for e in g["engines"]}


def test_prefill_and_decode_are_two_pods_on_two_gpus_of_one_pcie_root(cluster: Cluster, served: Serve) -> None:
    chat = served(inference(gpus={"pairing": "SamePCIeRoot"}))
    placed = engines(cluster, chat)
    prefill, decode = placed["prefill-0"], placed["decode-0"]
    assert prefill["pod"] != decode["pod"]
    assert len({*prefill["gpus"], *decode["gpus"]}) == 2
    devices = {
        d["attributes"]["uuid"]["string"]: d["attributes"]["resource.kubernetes.io/pcieRoot"]["string"]
        for s in cluster.list("resourceslices")
        for d in s["spec"]["devices"]
    }
    assert devices[prefill["gpus"][0]] == devices[decode["gpus"][0]]
    placement = cluster.condition("dinf", "chat", chat.namespace, "PlacementSatisfied")
    assert placement is not None
    assert placement["status"] == "True"


def test_the_containers_really_see_the_gpus_that_status_shows(cluster: Cluster, served: Serve) -> None:
    chat = served(inference())
    for name, engine in engines(cluster, chat).items():
        seen = cluster.run("exec", "-n", chat.namespace, engine["pod"], "--", "env")
        assert engine["gpus"][0] in seen, f"{name}: {engine['gpus']} not injected"


def test_disaggregated_text_equals_colocated_text(served: Serve) -> None:
    apart = served(inference("apart"))
    together = served(inference("together", mode="Colocated", gpus={"allocation": "None"}))
    texts = [apart.text(f"{i} {PROMPT}", 24) for i in range(3)]
    assert texts == [together.text(f"{i} {PROMPT}", 24) for i in range(3)]
    assert len(set(texts)) == 3


def test_streaming_and_whole_answers_agree(served: Serve) -> None:
    chat = served(inference())
    pieces = list(chat.stream(PROMPT, 16))
    assert len(pieces) > 1
    assert "".join(pieces) == chat.text(PROMPT, 16)


def test_kv_movement_is_unknown_before_traffic_and_proven_by_it(cluster: Cluster, served: Serve, http: Any) -> None:
    chat = served(inference())
    before = cluster.condition("dinf", "chat", chat.namespace, "KVTransferVerified")
    assert before is not None
    assert before["status"] == "Unknown"
    for i in range(12):
        chat.text(f"{i} {PROMPT}", 4)
    cluster.wait_condition("chat", chat.namespace, "KVTransferVerified", timeout=60)
    text = pod_metrics(http, chat.namespace, engines(cluster, chat)["decode-0"]["pod"], 8000)
    assert total(text, "vllm:prompt_tokens_by_source_total", source="external_kv_transfer") > 0


def test_recomputing_decode_is_reported_although_requests_succeed(cluster: Cluster, served: Serve) -> None:
    env = [{"name": "PHASEWATT_SIM_KV_MISS_RATIO", "value": "1"}]
    chat = served(inference(decode={"env": env}, kvTransfer={"onLoadFailure": "Recompute"}))
    for i in range(12):
        chat.text(f"{i} {PROMPT}", 4)
    verdict = cluster.wait_condition("chat", chat.namespace, "KVTransferVerified", "False", timeout=60)
    assert verdict["reason"] == "DecodeRecomputes"
    assert "decode-0 got 0 of" in verdict["message"]


def test_kubectl_get_reads_like_a_dashboard_line(cluster: Cluster, served: Serve) -> None:
    chat = served(inference())
    header, row = cluster.run("get", "dinf", "chat", "-n", chat.namespace).splitlines()
    assert header.split() == ["NAME", "MODE", "BACKEND", "TRANSPORT", "READY", "REASON", "AGE"]
    assert row.split()[:5] == ["chat", "Disaggregated", "NIXL", "Host", "1/1"]


def test_deleting_the_object_frees_everything_and_nothing_else(cluster: Cluster, served: Serve) -> None:
    chat = served(inference())
    cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "mine"}}, namespace=chat.namespace)
    cluster.delete("dinf", "chat", chat.namespace)
    kinds = "deployments,services,resourceclaims,pods"
    until("all children to go", lambda: not cluster.list(kinds, chat.namespace), 60)
    assert cluster.get("configmap", "mine", chat.namespace)
    # The same name, at once, with the same GPUs.
    assert served(inference()).text(PROMPT, 4)


def test_an_object_comes_back_under_the_same_name_without_waiting(cluster: Cluster, served: Serve) -> None:
    chat = served(inference())
    old = {p["metadata"]["uid"] for p in cluster.list("pods", chat.namespace)}
    cluster.delete("dinf", "chat", chat.namespace, wait=False)
    again = served(inference())
    assert again.text(PROMPT, 4)
    assert not old & {
        p["metadata"]["uid"]
        for p in cluster.list("pods", chat.namespace)
        if p["status"]["phase"] == "Running" and "deletionTimestamp" not in p["metadata"]
    }


@pytest.mark.parametrize("layout", ["SharedPod", "SeparatePods"])
def test_cuda_ipc_layouts_pin_each_engine_to_its_own_gpu(cluster: Cluster, served: Serve, layout: str) -> None:
    security = {"allowHostPID": layout == "SeparatePods"}
    chat = served(inference(podLayout=layout, security=security, kvTransfer={"nixl": {"transport": "CudaIPC"}}))
    placed = engines(cluster, chat)
    for name, engine in placed.items():
        pod = cluster.get("pod", engine["pod"], chat.namespace)
        shared_pid = pod["spec"].get("shareProcessNamespace") or pod["spec"].get("hostPID")
        assert shared_pid
        container = next(c["name"] for c in pod["spec"]["containers"] if c["name"] in (name, "engine"))
        # The engine process alone carries the pin; a new process of the container would not.
        script = (
            "for p in /proc/[0-9]*; do tr '\\0' '\\n' < $p/environ 2>/dev/null | grep ^CUDA_VISIBLE_DEVICES; done; true"
        )
        seen = cluster.run("exec", "-n", chat.namespace, engine["pod"], "-c", container, "--", "sh", "-c", script)
        assert f"CUDA_VISIBLE_DEVICES={engine['gpus'][0]}" in seen
    assert chat.text(PROMPT, 4)
