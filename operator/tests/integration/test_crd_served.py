"""How the API server serves our objects: defaults, columns, scale, status, documentation, changes of the CRD itself."""

from __future__ import annotations

import copy
import json
from functools import partial
from typing import Any

import pytest
from crd_cases import MODEL
from crd_specs import specs
from hypothesis import HealthCheck, given, settings
from phasewatt.api.base import VALIDATIONS
from phasewatt.api.crd import crd
from phasewatt.api.v1alpha1 import API_VERSION, KIND, PLURAL, DisaggregatedInference, Spec, Status
from phasewatt_testbed.bare import BareControlPlane
from phasewatt_testbed.processes import wait_until

JSON = dict[str, Any]
MERGE = {"Content-Type": "application/merge-patch+json"}


def url(namespace: str, name: str = "") -> str:
    return f"/apis/{API_VERSION}/namespaces/{namespace}/{PLURAL}/{name}".rstrip("/")


def inference(spec: JSON | None = None, name: str = "chat") -> JSON:
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": name}, "spec": {**MODEL, **(spec or {})}}


def create(plane: BareControlPlane, namespace: str, spec: JSON | None = None, **params: str) -> JSON:
    answer = plane.http.post(url(namespace), json=inference(spec), params=params)
    assert answer.status_code == 201, answer.text
    created: JSON = answer.json()
    return created


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(spec=specs)
def test_the_server_and_python_fill_in_the_same_defaults(crds: BareControlPlane, spec: JSON) -> None:
    served = create(crds, "default", spec, dryRun="All", fieldValidation="Strict")
    assert DisaggregatedInference.model_validate(served).spec == Spec.model_validate(spec)


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(spec=specs)
def test_what_python_writes_the_server_takes_as_it_is(crds: BareControlPlane, spec: JSON) -> None:
    written = Spec.model_validate(spec).model_dump(mode="json", by_alias=True, exclude_none=True)
    assert create(crds, "default", written, dryRun="All", fieldValidation="Strict")["spec"] == written


def test_every_default_shows_in_the_smallest_object(crds: BareControlPlane, namespace: str) -> None:
    assert create(crds, namespace)["spec"] == {
        **MODEL,
        "engine": {"sharedMemory": "2Gi"},
        "mode": "Disaggregated",
        "replicas": 1,
        "gpus": {
            "allocation": "Auto",
            "deviceClassName": "gpu.nvidia.com",
            "resourceName": "nvidia.com/gpu",
            "pairing": "Auto",
        },
        "kvTransfer": {"backend": "Auto", "nixl": {"transport": "Auto"}, "onLoadFailure": "Fail"},
        "podLayout": "SeparatePods",
        "security": {"allowHostPID": False},
        "router": {"replicas": 1, "policy": "RoundRobin"},
        "rollout": {"maxUnavailable": 1, "drainTimeout": "2m"},
        "suspend": False,
    }


STATUS: JSON = {
    "observedGeneration": 1,
    "endpoint": "http://chat.ns.svc.cluster.local:8000",
    "ready": "1/1",
    "replicas": 1,
    "readyReplicas": 1,
    "selector": "phasewatt.io/object=chat",
    "prefill": {"ready": 1, "updated": 1, "total": 1},
    "decode": {"ready": 1, "updated": 1, "total": 1},
    "kvTransfer": {"backend": "NIXL", "transport": "Host", "reason": "no DRA", "transferredTokens": 512},
    "groups": [
        {
            "index": 0,
            "ready": True,
            "node": "gpu-1",
            "pairingSatisfied": True,
            "engines": [{"name": "prefill-0", "role": "prefill", "pod": "p", "gpus": ["GPU-1"], "ready": True}],
        }
    ],
    "conditions": [
        {
            "type": kind,
            "status": "True",
            "reason": reason,
            "message": "All is well.",
            "observedGeneration": 1,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
        for kind, reason in (("Ready", "AllGroupsServe"), ("KVTransferVerified", "Transferred"))
    ],
}


@pytest.fixture
def reported(crds: BareControlPlane, namespace: str) -> str:
    """A namespace with an object `chat` whose status is `STATUS`."""
    create(crds, namespace)
    crds.http.patch(url(namespace, "chat/status"), json={"status": STATUS}, headers=MERGE).raise_for_status()
    return namespace


def test_a_status_is_stored_as_it_was_written_and_read_as_a_type(crds: BareControlPlane, reported: str) -> None:
    status = crds.http.get(url(reported, "chat")).json()["status"]
    assert status == STATUS
    assert Status.model_validate(status).model_dump(mode="json", by_alias=True, exclude_unset=True) == STATUS


def test_the_spec_and_the_status_have_different_writers(crds: BareControlPlane, reported: str) -> None:
    both = {"spec": {"replicas": 5}, "status": {"ready": "0/5"}}
    through_status = crds.http.patch(url(reported, "chat/status"), json=both, headers=MERGE).json()
    assert (through_status["spec"]["replicas"], through_status["status"]["ready"]) == (1, "0/5")
    through_spec = crds.http.patch(
        url(reported, "chat"), json={**both, "status": {"ready": "9/9"}}, headers=MERGE
    ).json()
    assert (through_spec["spec"]["replicas"], through_spec["status"]["ready"]) == (5, "0/5")
    assert through_spec["metadata"]["generation"] == 2


def test_the_columns_read_like_a_dashboard_line(crds: BareControlPlane, reported: str) -> None:
    table = crds.http.get(url(reported), headers={"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}).json()
    columns = {column["name"]: column["priority"] for column in table["columnDefinitions"]}
    cells = dict(zip(columns, table["rows"][0]["cells"], strict=True))
    assert cells.pop("Age")
    assert cells == {
        "Name": "chat",
        "Mode": "Disaggregated",
        "Backend": "NIXL",
        "Transport": "Host",
        "Ready": "1/1",
        "Reason": "AllGroupsServe",
        "Model": "meta-llama/Llama-3.2-3B-Instruct",
        "Endpoint": STATUS["endpoint"],
        "KV Verified": "True",
    }
    assert [name for name, priority in columns.items() if priority] == ["Model", "Endpoint", "KV Verified"]


def test_the_scale_subresource_is_that_of_groups(crds: BareControlPlane, reported: str) -> None:
    crds.kubectl("scale", "dinf/chat", "--replicas=3", "-n", reported)
    scale = crds.http.get(url(reported, "chat/scale")).json()
    assert scale["spec"] == {"replicas": 3}
    assert scale["status"] == {"replicas": 1, "selector": "phasewatt.io/object=chat"}


@pytest.mark.parametrize("word", [PLURAL, "disaggregatedinference", "dinf", "phasewatt"])
def test_kubectl_knows_the_object_by_its_names_and_its_category(
    crds: BareControlPlane, reported: str, word: str
) -> None:
    found = json.loads(crds.kubectl("get", word, "-n", reported, "-o", "json").stdout)
    assert [item["metadata"]["name"] for item in found["items"]] == ["chat"]


def test_kubectl_explain_teaches(crds: BareControlPlane) -> None:
    text = " ".join(crds.kubectl("explain", "dinf.spec.kvTransfer.nixl.transport").stdout.split())
    assert "ENUM: Auto CudaIPC Host DESCRIPTION: transport carries the KV cache." in text
    assert "CudaIPC: from GPU to GPU, which needs DRA, and podLayout SharedPod or security.allowHostPID." in text


def without_rules(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {key: without_rules(value) for key, value in schema.items() if key != VALIDATIONS}
    return [without_rules(item) for item in schema] if isinstance(schema, list) else schema


def refuses(plane: BareControlPlane, spec: JSON) -> bool:
    answer = plane.http.post(url("default"), json=inference(spec), params={"dryRun": "All"})
    return bool(answer.status_code == 422)


def test_a_stored_object_that_a_new_rule_would_refuse_can_still_be_changed_elsewhere(
    crds: BareControlPlane, namespace: str
) -> None:
    """An operator upgrade brings new rules; objects that break them must not freeze (CRD validation ratcheting)."""
    bad = {"engine": {"args": ["--port=1"]}}
    try:
        crds.apply(without_rules(copy.deepcopy(crd())))
        wait_until(lambda: not refuses(crds, bad), 30, "the API server still refuses")
        create(crds, namespace, bad)
    finally:
        crds.apply(crd())
    wait_until(partial(refuses, crds, bad), 30, "the API server does not refuse again")

    def patch(spec: JSON) -> int:
        return int(crds.http.patch(url(namespace, "chat"), json={"spec": spec}, headers=MERGE).status_code)

    assert patch({"replicas": 2}) == 200
    assert patch({"engine": {"args": ["--port=2"]}}) == 422
    assert patch({"engine": {"args": []}}) == 200
