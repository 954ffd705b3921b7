"""What the mock GPU plugin promises to everything above it, on real kubelets and a real container runtime."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from phasewatt_suite.cluster import Cluster, KubectlError, until
from phasewatt_testbed.images import IMAGES

PLUGIN_NAMESPACE = "phasewatt-mockgpu"
CDI_FILES = "/var/run/cdi/mock.phasewatt.io-gpu_*.json"
TIMEOUT = 120.0
"""Seconds for a pod to start or end on a busy machine."""


def pair(name: str) -> dict[str, Any]:
    """A claim for one prefill and one decode GPU below one PCIe root."""
    requests = [{"name": role, "exactly": {"deviceClassName": "gpu.nvidia.com"}} for role in ("prefill-0", "decode-0")]
    match = {"requests": ["prefill-0", "decode-0"], "matchAttribute": "resource.kubernetes.io/pcieRoot"}
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": name},
        "spec": {"devices": {"requests": requests, "constraints": [match]}},
    }


def pod(name: str, claim: str, *, node: str | None = None) -> dict[str, Any]:
    """Two containers: `engine` takes the whole claim, `observer` only the GPU of its request."""

    def container(container_name: str, **request: str) -> dict[str, Any]:
        return {
            "name": container_name,
            "image": IMAGES["mock-gpu"].reference,
            "command": ["sleep", "infinity"],
            "resources": {"requests": {"cpu": "1m"}, "claims": [{"name": "gpus", **request}]},
        }

    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "nodeSelector": {"kubernetes.io/hostname": node} if node else {},
            "resourceClaims": [{"name": "gpus", "resourceClaimName": claim}],
            "containers": [container("engine"), container("observer", request="decode-0")],
        },
    }


def ready(cluster: Cluster, namespace: str, *names: str) -> None:
    targets = [f"pod/{name}" for name in names]
    cluster.run("wait", "-n", namespace, "--for=condition=Ready", f"--timeout={TIMEOUT:.0f}s", *targets)


def environment(cluster: Cluster, namespace: str, name: str, container: str) -> dict[str, str]:
    """The GPU variables that a container was started with."""
    lines = cluster.run("exec", "-n", namespace, name, "-c", container, "--", "env").splitlines()
    variables = dict(line.split("=", 1) for line in lines if "=" in line)
    return {key: value for key, value in variables.items() if key.startswith(("MOCK_GPU_", "NVIDIA_"))}


def containers_of(cluster: Cluster, namespace: str, name: str) -> list[tuple[str, int]]:
    """Identity and restarts of a pod's containers: equal before and after when nothing touched them."""
    found = cluster.get("pod", name, namespace)
    assert found is not None
    return [(status["containerID"], status["restartCount"]) for status in found["status"]["containerStatuses"]]


def node_of(cluster: Cluster, namespace: str, name: str) -> str:
    found = cluster.get("pod", name, namespace)
    assert found is not None
    node: str = found["spec"]["nodeName"]
    return node


def gpus_of(cluster: Cluster, node: str) -> dict[str, dict[str, Any]]:
    """The attributes that the node publishes, by UUID; empty while there is no slice."""
    slices = json.loads(cluster.run("get", "resourceslices", "-o", "json"))["items"]
    devices = [d for s in slices if s["spec"].get("nodeName") == node for d in s["spec"]["devices"]]
    return {d["attributes"]["uuid"]["string"]: {**d["attributes"], "taints": d.get("taints", [])} for d in devices}


def plugin_on(cluster: Cluster, node: str, *, other_than: str = "") -> str | None:
    """Name of the ready plugin pod on `node`."""
    for found in cluster.list("pods", PLUGIN_NAMESPACE):
        conditions = found["status"].get("conditions", [])
        is_ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
        if found["spec"].get("nodeName") == node and is_ready and found["metadata"]["name"] != other_than:
            name: str = found["metadata"]["name"]
            return name
    return None


def in_plugin(cluster: Cluster, node: str, command: str) -> str:
    plugin = until(f"a ready mock GPU plugin on {node}", lambda: plugin_on(cluster, node), TIMEOUT)
    return cluster.run("exec", "-n", PLUGIN_NAMESPACE, plugin, "--", "sh", "-c", command)


def cdi_claims(cluster: Cluster, node: str) -> str:
    return in_plugin(cluster, node, f"ls {CDI_FILES} 2>/dev/null || true")


def uid_of_claim(cluster: Cluster, namespace: str, name: str) -> str:
    claim = cluster.get("resourceclaim", name, namespace)
    assert claim is not None
    uid: str = claim["metadata"]["uid"]
    return uid


@pytest.fixture
def device_plugin_node(cluster: Cluster) -> Iterator[str]:
    """A worker whose GPUs 2 and 3 belong to the device plugin while the test runs, and to the DRA driver afterwards."""
    config_map = cluster.get("configmap", "inventory", PLUGIN_NAMESPACE)
    assert config_map is not None
    shipped = config_map["data"]["inventory.yaml"]
    node: str = cluster.list("pods", PLUGIN_NAMESPACE)[0]["spec"]["nodeName"]
    inventory = yaml.safe_load(shipped)
    inventory["nodes"] = {node: {**inventory["default"], "dra": [0, 1], "devicePlugin": [2, 3]}}
    write_inventory(cluster, yaml.safe_dump(inventory))
    try:
        until("two GPUs of the device plugin", lambda: offered(cluster, node) == "2", TIMEOUT)
        until("two GPUs of the DRA driver", lambda: len(gpus_of(cluster, node)) == 2, TIMEOUT)
        yield node
    finally:
        write_inventory(cluster, shipped)
        until("no GPU of the device plugin", lambda: offered(cluster, node) in {"0", ""}, TIMEOUT)
        until("four GPUs of the DRA driver", lambda: len(gpus_of(cluster, node)) == 4, TIMEOUT)


@pytest.fixture
def sharing(cluster: Cluster, namespace: str) -> str:
    """Pods `prefill` and `decode` that share the claim `chat`; returns their node."""
    cluster.apply(pair("chat"), pod("prefill", "chat"), pod("decode", "chat"), namespace=namespace)
    ready(cluster, namespace, "prefill", "decode")
    return node_of(cluster, namespace, "prefill")


def test_two_pods_share_a_claim_and_see_what_they_take(cluster: Cluster, namespace: str, sharing: str) -> None:
    assert node_of(cluster, namespace, "decode") == sharing
    engine = environment(cluster, namespace, "prefill", "engine")
    assert engine.keys() == {"MOCK_GPU_PREFILL_0", "MOCK_GPU_DECODE_0", "NVIDIA_VISIBLE_DEVICES"}
    assert engine["NVIDIA_VISIBLE_DEVICES"] == "void"
    assert environment(cluster, namespace, "decode", "engine") == engine
    assert environment(cluster, namespace, "decode", "observer") == {
        key: engine[key] for key in ("MOCK_GPU_DECODE_0", "NVIDIA_VISIBLE_DEVICES")
    }
    gpus = gpus_of(cluster, sharing)
    chosen = [gpus[engine[key]] for key in ("MOCK_GPU_PREFILL_0", "MOCK_GPU_DECODE_0")]
    assert len({gpu["uuid"]["string"] for gpu in chosen}) == 2
    assert len({gpu["resource.kubernetes.io/pcieRoot"]["string"] for gpu in chosen}) == 1


def test_the_engine_environment_of_the_node_is_injected_read_only(
    cluster: Cluster, namespace: str, sharing: str
) -> None:
    folder = "/opt/phasewatt/engine-env"
    listing = f"ls -A {folder} 2>/dev/null || true"
    on_node = in_plugin(cluster, sharing, listing)
    engine = ("exec", "-n", namespace, "prefill", "-c", "engine", "--", "sh", "-c")
    assert cluster.run(*engine, listing) == on_node
    if on_node:
        with pytest.raises(KubectlError, match="Read-only file system"):
            cluster.run(*engine, f"touch {folder}/written")


def test_running_pods_do_not_notice_a_new_plugin(cluster: Cluster, namespace: str, sharing: str) -> None:
    before = containers_of(cluster, namespace, "prefill")
    old = until("a plugin", lambda: plugin_on(cluster, sharing), TIMEOUT)
    cluster.delete("pod", old, PLUGIN_NAMESPACE)
    until("its successor", lambda: plugin_on(cluster, sharing, other_than=old), TIMEOUT)

    assert containers_of(cluster, namespace, "prefill") == before
    cluster.apply(pod("late", "chat"), namespace=namespace)
    ready(cluster, namespace, "late")
    assert environment(cluster, namespace, "late", "engine") == environment(cluster, namespace, "prefill", "engine")
    uid = uid_of_claim(cluster, namespace, "chat")
    assert uid in cdi_claims(cluster, sharing)
    for name in ("prefill", "decode", "late"):
        cluster.delete("pod", name, namespace)
    until("the successor to unprepare", lambda: uid not in cdi_claims(cluster, sharing), TIMEOUT)


def test_running_pods_survive_a_new_kubelet(cluster: Cluster, namespace: str, sharing: str) -> None:
    before = containers_of(cluster, namespace, "prefill")
    restart_kubelet(cluster, sharing)
    # A new kubelet deletes the slices of its node before it asks the plugins to register.
    until("the node's GPUs to be published", lambda: gpus_of(cluster, sharing), TIMEOUT)
    cluster.apply(pair("second"), pod("second", "second", node=sharing), namespace=namespace)
    ready(cluster, namespace, "second")
    assert environment(cluster, namespace, "second", "engine").keys() > {"MOCK_GPU_PREFILL_0", "MOCK_GPU_DECODE_0"}
    assert containers_of(cluster, namespace, "prefill") == before
    uid = uid_of_claim(cluster, namespace, "chat")
    for name in ("prefill", "decode"):
        cluster.delete("pod", name, namespace)
    until("the claim from before to be unprepared", lambda: uid not in cdi_claims(cluster, sharing), TIMEOUT)


def test_a_failed_gpu_is_tainted_and_its_pod_says_so(cluster: Cluster, namespace: str, sharing: str) -> None:
    uuid = environment(cluster, namespace, "prefill", "engine")["MOCK_GPU_PREFILL_0"]
    slices = json.loads(cluster.run("get", "resourceslices", "-o", "json"))["items"]
    devices = [d for s in slices for d in s["spec"]["devices"]]
    name = next(d["name"] for d in devices if d["attributes"]["uuid"]["string"] == uuid)

    def health() -> str:
        found = cluster.get("pod", "prefill", namespace)
        assert found is not None
        engine = next(s for s in found["status"]["containerStatuses"] if s["name"] == "engine")
        return json.dumps(engine.get("allocatedResourcesStatus", []))

    in_plugin(cluster, sharing, f"phasewatt-mockgpu fail {name} 'Xid 79: GPU has fallen off the bus'")
    try:
        until("the taint", lambda: gpus_of(cluster, sharing).get(uuid, {}).get("taints"), TIMEOUT)
        until("the pod's status to say Unhealthy", lambda: "Unhealthy" in health(), TIMEOUT)
    finally:
        in_plugin(cluster, sharing, f"phasewatt-mockgpu heal {name}")
    until("the taint to go", lambda: gpus_of(cluster, sharing).get(uuid, {}).get("taints") == [], TIMEOUT)
    until("the pod's status to say Healthy", lambda: "Unhealthy" not in health(), TIMEOUT)


def test_the_device_plugin_serves_its_own_share(cluster: Cluster, namespace: str, device_plugin_node: str) -> None:
    def takes_both(name: str) -> None:
        cluster.apply(plain_pod(name, device_plugin_node), namespace=namespace)
        ready(cluster, namespace, name)
        uuids = environment(cluster, namespace, name, "engine")["NVIDIA_VISIBLE_DEVICES"].split(",")
        assert len(set(uuids)) == 2
        assert not set(uuids) & gpus_of(cluster, device_plugin_node).keys(), "the DRA driver has the other two"
        cluster.delete("pod", name, namespace)

    takes_both("before")
    # A new kubelet empties the folder of plugin sockets and gives out nothing until the plugin calls it.
    seen = registrations(cluster, device_plugin_node)
    restart_kubelet(cluster, device_plugin_node)
    until("a new registration", lambda: registrations(cluster, device_plugin_node) > seen, TIMEOUT)
    until("the GPUs to be back", lambda: offered(cluster, device_plugin_node) == "2", TIMEOUT)
    takes_both("after")


def plain_pod(name: str, node: str) -> dict[str, Any]:
    """A pod that asks for two GPUs as pods did before resource claims."""
    manifest = pod(name, "", node=node)
    del manifest["spec"]["resourceClaims"]
    engine, _ = manifest["spec"]["containers"]
    engine["resources"] = {"requests": {"cpu": "1m"}, "limits": {"nvidia.com/gpu": 2}}
    manifest["spec"]["containers"] = [engine]
    return manifest


def registrations(cluster: Cluster, node: str) -> int:
    """How often the plugin that runs on `node` has registered its device plugin with a kubelet."""
    plugin = plugin_on(cluster, node)
    log = cluster.run("logs", "-n", PLUGIN_NAMESPACE, plugin) if plugin else ""
    return log.count("kubelet registered the device plugin")


def offered(cluster: Cluster, node: str) -> str:
    """What the node's kubelet offers as nvidia.com/gpu, once the plugin there is ready; empty when that is nothing."""
    if plugin_on(cluster, node) is None:
        return "unknown"
    return cluster.run("get", "node", node, "-o", r"jsonpath={.status.allocatable.nvidia\.com/gpu}")


def write_inventory(cluster: Cluster, text: str) -> None:
    """Change the inventory, and let kubelet look at the pods that mount it now, not in a minute."""
    patch = json.dumps({"data": {"inventory.yaml": text}})
    cluster.run("patch", "configmap", "inventory", "-n", PLUGIN_NAMESPACE, "--type=merge", "-p", patch)
    stamp = f"inventory-digest={hashlib.sha256(text.encode()).hexdigest()}"
    cluster.run("annotate", "pods", "--all", "-n", PLUGIN_NAMESPACE, "--overwrite", stamp)


def restart_kubelet(cluster: Cluster, node: str) -> None:
    """Restart kubelet from a privileged pod on its node: works wherever there is a kubeconfig."""
    restarter = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "restart-kubelet"},
        "spec": {
            "nodeName": node,
            "hostPID": True,
            "restartPolicy": "Never",
            "tolerations": [{"operator": "Exists"}],
            "containers": [
                {
                    "name": "systemctl",
                    "image": IMAGES["mock-gpu"].reference,
                    "command": ["nsenter", "-t", "1", "-m", "systemctl", "restart", "kubelet"],
                    "securityContext": {"privileged": True},
                }
            ],
        },
    }
    cluster.delete("pod", "restart-kubelet", PLUGIN_NAMESPACE)
    cluster.apply(restarter, namespace=PLUGIN_NAMESPACE)
    try:
        succeeded = "--for=jsonpath={.status.phase}=Succeeded"
        cluster.run("wait", "-n", PLUGIN_NAMESPACE, succeeded, f"--timeout={TIMEOUT:.0f}s", "pod/restart-kubelet")
    finally:
        cluster.delete("pod", "restart-kubelet", PLUGIN_NAMESPACE)
