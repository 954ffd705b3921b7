"""The operator may die at any moment: what it left half done is finished by the next one, nothing twice."""

from __future__ import annotations

from collections.abc import Callable

from phasewatt_suite.cluster import Cluster, until
from phasewatt_suite.install import NAMESPACE, Release
from phasewatt_suite.objects import inference
from phasewatt_suite.serving import Served

Serve = Callable[..., Served]


def test_killed_again_and_again_during_a_rollout(cluster: Cluster, release: Release, served: Serve) -> None:
    """Each engine is replaced exactly once however often the operator is killed on the way."""
    chat = served(inference(replicas=2))
    selector = f"phasewatt.io/object={chat.name},phasewatt.io/role in (prefill,decode)"
    seen = {p["metadata"]["uid"] for p in cluster.list("pods", chat.namespace, selector)}
    old = set(seen)
    patch = '{"spec": {"engine": {"args": ["--seed=9"]}}}'
    cluster.run("patch", "dinf", "chat", "-n", chat.namespace, "--type=merge", "-p", patch)

    def done() -> bool:
        pods = cluster.list("pods", chat.namespace, selector)
        seen.update(p["metadata"]["uid"] for p in pods)
        return not old & {p["metadata"]["uid"] for p in pods} and len(pods) == 4

    for _ in range(4):
        cluster.run("delete", "pod", "-n", NAMESPACE, release.operator_pod(), "--grace-period=1", "--wait=false")
        until(
            "the next operator",
            lambda: cluster.get("pod", release.operator_pod(), NAMESPACE)["status"]["phase"] == "Running",
            60,
        )
        done()
    until("all engines replaced", done, 180)
    cluster.wait_condition("chat", chat.namespace, "Ready", timeout=120)
    cluster.wait_condition("chat", chat.namespace, "Reconciling", "False", timeout=60)
    done()
    assert len(seen - old) == 4
    claims = cluster.list("resourceclaims", chat.namespace)
    assert len(claims) == 2
    assert len(cluster.list("deployments", chat.namespace)) == 6
