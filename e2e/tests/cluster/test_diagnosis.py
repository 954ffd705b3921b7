"""When it cannot work, the object itself says which child, why, and what to do."""

from __future__ import annotations

from phasewatt_suite.cluster import Cluster, until
from phasewatt_suite.install import Release
from phasewatt_suite.objects import inference


def told(cluster: Cluster, namespace: str, *words: str, timeout: float = 90) -> str:
    """Wait until some condition's message holds all the words; return it."""

    def look() -> str | None:
        status = (cluster.get("dinf", "chat", namespace) or {}).get("status", {})
        messages = [
            c["message"] for c in status.get("conditions", []) if c["type"] in ("Ready", "Reconciling", "Stalled")
        ]
        return next((m for m in messages if all(word.lower() in m.lower() for word in words)), None)

    try:
        return until(f"a condition that says {words}", look, timeout)
    except TimeoutError as error:
        raise TimeoutError(f"{error}\n{cluster.story('chat', namespace)}") from error


def test_an_image_that_does_not_exist(cluster: Cluster, release: Release, namespace: str) -> None:
    cluster.apply(inference(engine={"image": "ghcr.io/phasewatt/nothing:0"}), namespace=namespace)
    told(cluster, namespace, "prefill-0", "ghcr.io/phasewatt/nothing:0", "engine.image")


def test_a_model_path_that_does_not_exist(cluster: Cluster, release: Release, namespace: str) -> None:
    model = {"name": "sim/llama", "source": {"path": "/nowhere"}}
    cluster.apply(inference(model=model), namespace=namespace)
    told(cluster, namespace, "prefill-0", "/nowhere")


def test_an_engine_that_crashes_at_start(cluster: Cluster, release: Release, namespace: str) -> None:
    env = [{"name": "PHASEWATT_SIM_CRASH_AT_START", "value": "out of patience"}]
    cluster.apply(inference(decode={"env": env}), namespace=namespace)
    told(cluster, namespace, "decode-0", "out of patience")


def test_a_secret_that_does_not_exist_heals_when_it_appears(cluster: Cluster, release: Release, namespace: str) -> None:
    source = {"huggingFace": {"tokenSecretRef": {"name": "hub", "key": "token"}}}
    cluster.apply(inference(model={"name": "sim/llama", "source": source}), namespace=namespace)
    told(cluster, namespace, "hub", "secret")
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "hub"}, "stringData": {"token": "hf_secret"}}
    cluster.apply(secret, namespace=namespace)
    cluster.wait_condition("chat", namespace, "Ready", timeout=150)
    assert "hf_secret" not in cluster.run("get", "dinf,pods,deployments", "-n", namespace, "-o", "yaml")


def test_more_gpus_than_there_are_heals_when_some_get_free(cluster: Cluster, release: Release, namespace: str) -> None:
    """Four groups of one prefill and one decode take all eight GPUs of the testbed; one more waits, with the reason."""
    cluster.apply(inference("others", replicas=3), namespace=namespace)
    cluster.wait_condition("others", namespace, "Ready", timeout=150)
    cluster.apply(inference("chat", replicas=2), namespace=namespace)
    told(cluster, namespace, "gpu", "free", timeout=60)
    cluster.run("scale", "dinf", "others", "-n", namespace, "--replicas=2")
    cluster.wait_condition("chat", namespace, "Ready", timeout=120)
