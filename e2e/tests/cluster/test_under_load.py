"""What users' requests see while groups come and go, engines die and templates change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
from phasewatt_suite.cluster import Cluster, until
from phasewatt_suite.load import failures, load
from phasewatt_suite.objects import OPERATOR_IMAGE, inference
from phasewatt_suite.serving import Served, pod_metrics, total

Serve = Callable[..., Served]


def url(served: Served) -> str:
    return f"http://{served.name}.{served.namespace}.svc:8000"


def router_errors(cluster: Cluster, http: Any, namespace: str, group: int) -> tuple[float, float]:
    """Failed and all requests that the router of one group counted since it started."""
    selector = f"phasewatt.io/role=router,phasewatt.io/group={group}"
    pod = cluster.list("pods", namespace, selector)[0]["metadata"]["name"]
    text = pod_metrics(http, namespace, pod, 29000)
    return total(text, "vllm_router_pd_errors_total"), total(text, "vllm_router_pd_requests_total")


def crash(http: httpx.Client, namespace: str, pod: str) -> None:
    """End an engine's process as a crash does; it does not live to answer."""
    answer = http.post(f"/api/v1/namespaces/{namespace}/pods/{pod}:8000/proxy/sim/faults", json={"crash": True})
    assert answer.is_server_error, answer.text


def test_scaling_groups_loses_no_request(cluster: Cluster, served: Serve) -> None:
    chat = served(inference())
    with load(cluster, chat.namespace, url(chat), chat.model, OPERATOR_IMAGE, concurrency=8) as running:
        running.flowing(20)
        cluster.run("scale", "dinf", "chat", "-n", chat.namespace, "--replicas=3")
        until("three groups", lambda: ready_groups(cluster, chat) == 3, 120)
        answered = running.flowing(0)
        running.flowing(answered + 60)
        cluster.run("scale", "dinf", "chat", "-n", chat.namespace, "--replicas=1")
        until("the pods of two groups to go", lambda: len(engine_pods(cluster, chat)) == 2, 120)
        answered = running.flowing(0)
        running.flowing(answered + 20)
        records = running.stop()
    assert failures(records) == []


def test_a_killed_engine_leaves_the_other_group_alone_and_heals(cluster: Cluster, served: Serve, http: Any) -> None:
    chat = served(inference(replicas=2))
    with load(cluster, chat.namespace, url(chat), chat.model, OPERATOR_IMAGE, concurrency=8) as running:
        running.flowing(30)
        victim = cluster.list("pods", chat.namespace, "phasewatt.io/group=0,phasewatt.io/role=decode")[0]["metadata"][
            "name"
        ]
        crash(http, chat.namespace, victim)
        told = cluster.wait_condition("chat", chat.namespace, "Reconciling", "True", timeout=30)
        cluster.wait_condition("chat", chat.namespace, "Ready", timeout=120)
        answered = running.flowing(0)
        running.flowing(answered + 30)
        records = running.stop()
    errors, requests = router_errors(cluster, http, chat.namespace, 1)
    assert requests > 0
    assert errors == 0
    assert "decode-0" in told["message"]
    assert failures(records[-5:]) == []


def test_changing_a_template_with_two_groups_loses_no_request(cluster: Cluster, served: Serve) -> None:
    chat = served(inference(replicas=2))
    before = {p["metadata"]["uid"] for p in engine_pods(cluster, chat)}
    with load(cluster, chat.namespace, url(chat), chat.model, OPERATOR_IMAGE, concurrency=6) as running:
        running.flowing(20)
        patch = '{"spec": {"engine": {"args": ["--seed=7"]}}}'
        cluster.run("patch", "dinf", "chat", "-n", chat.namespace, "--type=merge", "-p", patch)
        cluster.wait_condition("chat", chat.namespace, "Reconciling", "False", timeout=180)
        cluster.wait_condition("chat", chat.namespace, "Ready", timeout=60)
        answered = running.flowing(0)
        running.flowing(answered + 20)
        records = running.stop()
    after = engine_pods(cluster, chat)
    assert not before & {p["metadata"]["uid"] for p in after}
    assert all(
        "--seed=7" in p["spec"]["containers"][0]["args"] + p["spec"]["containers"][0].get("command", []) for p in after
    )
    assert failures(records) == []


def test_a_router_change_restarts_no_engine_and_loses_no_request(cluster: Cluster, served: Serve) -> None:
    chat = served(inference())
    before = {p["metadata"]["uid"] for p in engine_pods(cluster, chat)}
    routers = {p["metadata"]["uid"] for p in router_pods(cluster, chat)}
    with load(cluster, chat.namespace, url(chat), chat.model, OPERATOR_IMAGE, concurrency=6) as running:
        running.flowing(20)
        patch = '{"spec": {"router": {"policy": "Random"}}}'
        cluster.run("patch", "dinf", "chat", "-n", chat.namespace, "--type=merge", "-p", patch)
        until(
            "a new router alone", lambda: not routers & {p["metadata"]["uid"] for p in router_pods(cluster, chat)}, 120
        )
        cluster.wait_condition("chat", chat.namespace, "Ready", timeout=60)
        answered = running.flowing(0)
        running.flowing(answered + 20)
        records = running.stop()
    assert {p["metadata"]["uid"] for p in engine_pods(cluster, chat)} == before
    assert failures(records) == []


def ready_groups(cluster: Cluster, served: Served) -> int:
    return int(cluster.get("dinf", served.name, served.namespace)["status"].get("readyReplicas", 0))


def engine_pods(cluster: Cluster, served: Served) -> list[dict[str, Any]]:
    return cluster.list(
        "pods", served.namespace, f"phasewatt.io/object={served.name},phasewatt.io/role in (prefill,decode)"
    )


def router_pods(cluster: Cluster, served: Served) -> list[dict[str, Any]]:
    return cluster.list("pods", served.namespace, f"phasewatt.io/object={served.name},phasewatt.io/role=router")
