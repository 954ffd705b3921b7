"""The harness itself: what every other integration test takes for granted."""

from __future__ import annotations

import json

from phasewatt_testbed.bare import BareControlPlane


def test_objects_survive_a_restart_of_etcd_and_the_api_server(apiserver: BareControlPlane, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    before = apiserver.http.post(path, json={"metadata": {"name": "kept"}, "data": {"a": "1"}}).json()
    address = apiserver.url

    apiserver.restart()

    assert apiserver.url == address
    assert apiserver.http.get(f"{path}/kept").json() == before


def test_kubectl_reaches_the_api_server_of_the_pinned_version(apiserver: BareControlPlane) -> None:
    versions = json.loads(apiserver.kubectl("version", "-o", "json").stdout)
    assert versions["serverVersion"]["gitVersion"] == versions["clientVersion"]["gitVersion"]


def test_without_controllers_a_deployment_makes_nothing(apiserver: BareControlPlane, namespace: str) -> None:
    apiserver.kubectl("create", "deployment", "idle", "--image=none", "-n", namespace)
    assert apiserver.kubectl("get", "replicasets", "-n", namespace, "-o", "name").stdout == ""


def test_with_controllers_a_deployment_makes_a_replica_set_and_deletion_collects_it(
    controlplane: BareControlPlane, controlplane_namespace: str
) -> None:
    where = ("-n", controlplane_namespace)
    controlplane.kubectl("create", "deployment", "idle", "--image=none", *where)
    controlplane.kubectl("wait", "--for=create", "pod", "-l", "app=idle", "--timeout=60s", *where)

    controlplane.kubectl("delete", "deployment", "idle", "--cascade=foreground", "--timeout=60s", *where)

    assert controlplane.kubectl("get", "replicasets,pods", "-o", "name", *where).stdout == ""
