"""The plugin against a real API server and scheduler: validation, least privilege, and GPUs that belong together."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from kubernetes import client
from phasewatt_mockgpu.clusterapi import KubernetesApi
from phasewatt_mockgpu.health import Ailment
from phasewatt_mockgpu.inventory import NodeGpus
from phasewatt_mockgpu.plugin import Settings
from phasewatt_mockgpu.slices import SliceChange, plan_slices
from phasewatt_testbed.bare import BareControlPlane

from .fake_cluster import MANIFESTS, NODE, eventually
from .running import running

pytestmark = pytest.mark.integration
CLAIMS = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims"
PODS = "/api/v1/namespaces/default/pods"


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BareControlPlane]:
    with BareControlPlane(tmp_path_factory.mktemp("plane"), scheduler=True) as plane:
        for manifest in sorted(MANIFESTS.glob("*.yaml")):
            plane.kubectl("apply", "--server-side", "--validate=strict", "-f", str(manifest))
        plane.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}})
        plane.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}})
        # A new node is born with the taint not-ready, which a controller would take off.
        merge(plane, f"/api/v1/nodes/{NODE}", {"spec": {"taints": None}})
        room = {"cpu": "8", "memory": "8Gi", "pods": "100"}
        ready = [{"type": "Ready", "status": "True"}]
        status = {"capacity": room, "allocatable": room, "conditions": ready}
        merge(plane, f"/api/v1/nodes/{NODE}/status", {"status": status})
        yield plane


@pytest.fixture
def api(plane: BareControlPlane) -> Iterator[KubernetesApi]:
    """With the rights of the shipped service account, and no more."""
    configuration = client.Configuration(host=plane.url)
    configuration.ssl_ca_cert = str(plane.ca)
    token = plane.kubectl("-n", "phasewatt-mockgpu", "create", "token", "mock-gpu").stdout.strip()
    configuration.api_key = {"authorization": f"Bearer {token}"}
    with client.ApiClient(configuration) as api_client:
        yield KubernetesApi(api_client)


def pair(name: str, root: str) -> dict[str, Any]:
    """A claim for a prefill and a decode GPU that match in the attribute `root`."""
    request = {"deviceClassName": "gpu.nvidia.com"}
    requests = [{"name": role, "exactly": request} for role in ("prefill-0", "decode-0")]
    constraint = {"requests": ["prefill-0", "decode-0"], "matchAttribute": root}
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"devices": {"requests": requests, "constraints": [constraint]}},
    }


def user(claim: str, number: int) -> dict[str, Any]:
    """A pod that uses the claim."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"{claim}-{number}", "namespace": "default"},
        "spec": {
            "containers": [{"name": "engine", "image": "none", "resources": {"claims": [{"name": "gpus"}]}}],
            "resourceClaims": [{"name": "gpus", "resourceClaimName": claim}],
        },
    }


def test_the_api_server_stores_the_slice_just_as_we_want_it(
    plane: BareControlPlane, settings: Settings, api: KubernetesApi, node: NodeGpus
) -> None:
    with running(settings, api):
        eventually(lambda: api.list_slices(NODE))
    (stored,) = api.list_slices(NODE)
    node_uid = plane.http.get(f"/api/v1/nodes/{NODE}").json()["metadata"]["uid"]
    assert plan_slices(node, node_uid, {}, [stored]) == SliceChange(), "at rest there is nothing to write"

    ailment = Ailment(message="Xid 79", since=datetime.now(UTC).replace(microsecond=0))
    change = plan_slices(node, node_uid, {"gpu-0": ailment}, [stored])
    assert change.replace is not None
    api.replace_slice(change.replace)
    assert plan_slices(node, node_uid, {"gpu-0": ailment}, api.list_slices(NODE)) == SliceChange()


def test_two_pods_share_a_claim_on_one_pcie_root(
    plane: BareControlPlane, settings: Settings, api: KubernetesApi, node: NodeGpus
) -> None:
    roots = {gpu.uuid: gpu.gpu.pcie_root for gpu in node.dra}
    with running(settings, api) as kubelet:
        given_out: list[set[str]] = []
        for name in ("chat", "code"):
            plane.apply(pair(name, "resource.kubernetes.io/pcieRoot"), user(name, 0), user(name, 1))
            eventually(lambda name=name: len(reserved_for(plane, name)) == 2)
            uid = plane.http.get(f"{CLAIMS}/{name}").json()["metadata"]["uid"]
            answer = kubelet.prepare((name, uid))[uid]
            assert answer.error == ""
            assert {d.request_names[0] for d in answer.devices} == {"prefill-0", "decode-0"}
            uuids = {gpu.uuid for gpu in node.dra for d in answer.devices if d.device_name == gpu.name}
            assert len({roots[uuid] for uuid in uuids}) == 1
            given_out.append(uuids)
        assert not given_out[0] & given_out[1]

        plane.apply(pair("late", "resource.kubernetes.io/pcieRoot"), user("late", 0))
        eventually(lambda: "cannot allocate all claims" in unschedulable(plane, "late-0"))
        for name in ("chat", "code", "late"):
            assert kubelet.unprepare((name, plane.http.get(f"{CLAIMS}/{name}").json()["metadata"]["uid"]))
        release(plane, "chat", "code", "late")


def test_no_pair_matches_in_the_bus_id(plane: BareControlPlane, settings: Settings, api: KubernetesApi) -> None:
    with running(settings, api):
        eventually(lambda: api.list_slices(NODE))
        plane.apply(pair("never", "resource.kubernetes.io/pciBusID"), user("never", 0))
        eventually(lambda: "cannot allocate all claims" in unschedulable(plane, "never-0"))
        release(plane, "never")


def test_a_deleted_slice_is_published_again(settings: Settings, api: KubernetesApi) -> None:
    with running(settings, api):
        eventually(lambda: api.list_slices(NODE))
        api.delete_slice(api.list_slices(NODE)[0]["metadata"]["name"])
        eventually(lambda: api.list_slices(NODE))


def merge(plane: BareControlPlane, path: str, change: dict[str, Any]) -> None:
    headers = {"Content-Type": "application/merge-patch+json"}
    plane.http.patch(path, json=change, headers=headers).raise_for_status()


def reserved_for(plane: BareControlPlane, claim: str) -> list[str]:
    status = plane.http.get(f"{CLAIMS}/{claim}").json().get("status", {})
    return [user["name"] for user in status.get("reservedFor", [])]


def unschedulable(plane: BareControlPlane, pod: str) -> str:
    """Why the scheduler does not place the pod."""
    conditions = plane.http.get(f"{PODS}/{pod}").json()["status"].get("conditions", [])
    return next((c.get("message", "") for c in conditions if c["type"] == "PodScheduled"), "")


def release(plane: BareControlPlane, *claims: str) -> None:
    """Delete the claims and their pods; without a kubelet and controllers nobody else takes the protections off."""
    for claim in claims:
        for number in range(2):
            plane.http.delete(f"{PODS}/{claim}-{number}?gracePeriodSeconds=0")
        merge(plane, f"{CLAIMS}/{claim}", {"metadata": {"finalizers": None}})
        plane.http.delete(f"{CLAIMS}/{claim}").raise_for_status()
