"""Helm against a real API server: the rights it grants, the pods it admits, what it keeps over upgrade and removal."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helm_chart import CHART, NAMESPACE, HelmError, helm, of_kind, render
from kubeconform import MONITORING
from phasewatt_testbed.bare import BareControlPlane

pytestmark = pytest.mark.integration

CRD = "disaggregatedinferences.phasewatt.io"
ACCOUNT = f"system:serviceaccount:{NAMESPACE}:phasewatt"

Helm = Callable[..., str]


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BareControlPlane]:
    with BareControlPlane(tmp_path_factory.mktemp("chart")) as plane:
        for namespace in (NAMESPACE, "team-a", "team-b"):
            plane.kubectl("create", "namespace", namespace)
        yield plane


@pytest.fixture
def on_plane(plane: BareControlPlane) -> Iterator[Helm]:
    """helm on this API server. Nothing is left of the release after the test, not even the CRDs."""

    def run(*args: str, values: dict[str, Any] | None = None) -> str:
        given = ("-f", "-") if values is not None else ()
        where = ("-n", NAMESPACE, "--kubeconfig", str(plane.kubeconfig))
        return helm(*args, *given, *where, stdin=json.dumps(values or {}))

    yield run
    run("uninstall", "phasewatt", "--ignore-not-found")
    plane.kubectl("delete", "crd", CRD, "--ignore-not-found")


def allowed(plane: BareControlPlane, verb: str, resource: str, namespace: str = "team-a") -> bool:
    """What the API server itself answers about the operator's account."""
    kind, _, subresource = resource.partition("/")
    name, _, group = kind.partition(".")
    attributes = {"verb": verb, "resource": name, "group": group, "subresource": subresource, "namespace": namespace}
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview"}
    review["spec"] = {"user": ACCOUNT, "resourceAttributes": attributes}
    answer = plane.http.post("/apis/authorization.k8s.io/v1/subjectaccessreviews", json=review).raise_for_status()
    return bool(answer.json()["status"]["allowed"])


WANTED = [
    ("patch", "disaggregatedinferences.phasewatt.io/status"),
    ("patch", "deployments.apps"),
    ("create", "services"),
    ("delete", "resourceclaims.resource.k8s.io"),
    ("patch", "pods"),
    ("create", "events.events.k8s.io"),
]
UNWANTED = [
    ("get", "secrets"),
    ("list", "configmaps"),
    ("create", "pods"),
    ("delete", "pods"),
    ("create", "pods/exec"),
    ("patch", "disaggregatedinferences.phasewatt.io"),
    ("patch", "customresourcedefinitions.apiextensions.k8s.io"),
    ("create", "rolebindings.rbac.authorization.k8s.io"),
    ("list", "nodes"),
]


def test_the_account_can_do_its_work_and_nothing_else(plane: BareControlPlane, on_plane: Helm) -> None:
    on_plane("install", "phasewatt", str(CHART))
    assert [right for right in WANTED if not allowed(plane, *right)] == []
    assert [right for right in UNWANTED if allowed(plane, *right)] == []
    assert allowed(plane, "list", "resourceslices.resource.k8s.io", "")


def test_listed_namespaces_are_the_only_ones(plane: BareControlPlane, on_plane: Helm) -> None:
    on_plane("install", "phasewatt", str(CHART), values={"watchNamespaces": ["team-a"]})
    assert [right for right in WANTED if not allowed(plane, *right, "team-a")] == []
    assert [right for right in WANTED if allowed(plane, *right, "team-b")] == []
    assert [right for right in WANTED if allowed(plane, *right, "")] == []
    assert allowed(plane, "watch", "resourceslices.resource.k8s.io", "")


def test_the_pod_is_admitted_where_restricted_is_enforced(plane: BareControlPlane, on_plane: Helm) -> None:
    on_plane("install", "phasewatt", str(CHART))
    plane.kubectl("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted", "--overwrite")
    template = of_kind(render(), "Deployment")[0]["spec"]["template"]
    pod = {"apiVersion": "v1", "kind": "Pod", **template, "metadata": {**template["metadata"], "name": "operator"}}
    url = f"/api/v1/namespaces/{NAMESPACE}/pods?dryRun=All"
    assert plane.http.post(url, json=pod).status_code == 201
    pod["spec"] = {**pod["spec"], "hostPID": True}
    assert "violates PodSecurity" in plane.http.post(url, json=pod).text


def test_an_upgrade_keeps_objects_and_brings_the_new_chart(
    plane: BareControlPlane, on_plane: Helm, tmp_path: Path
) -> None:
    helm("package", str(CHART), "--version", "0.0.9", "--destination", str(tmp_path))
    on_plane("install", "phasewatt", str(tmp_path / "phasewatt-0.0.9.tgz"))
    plane.kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd", CRD)
    chat = {"apiVersion": "phasewatt.io/v1alpha1", "kind": "DisaggregatedInference", "metadata": {"name": "chat"}}
    chat["spec"] = {"model": {"name": "m"}}
    plane.kubectl("apply", "-n", "team-a", "-f", "-", stdin=json.dumps(chat))
    uid = plane.kubectl("get", "dinf", "chat", "-n", "team-a", "-o", "jsonpath={.metadata.uid}").stdout

    on_plane("upgrade", "phasewatt", str(CHART))
    label = plane.kubectl("get", "crd", CRD, "-o", r"jsonpath={.metadata.labels.helm\.sh/chart}").stdout
    assert label == f"phasewatt-{json.loads(on_plane('get', 'metadata', 'phasewatt', '-o', 'json'))['version']}"

    on_plane("uninstall", "phasewatt")
    kept = plane.kubectl("get", "dinf", "chat", "-n", "team-a", "-o", "jsonpath={.metadata.uid}").stdout
    assert kept == uid

    on_plane("install", "phasewatt", str(CHART))


def test_without_keep_the_crds_go_with_the_release(plane: BareControlPlane, on_plane: Helm) -> None:
    on_plane("install", "phasewatt", str(CHART), values={"crds": {"keep": False}})
    on_plane("uninstall", "phasewatt")
    plane.kubectl("wait", "--for=delete", "--timeout=30s", "crd", CRD)


def test_monitors_need_their_api_and_pass_it(plane: BareControlPlane, on_plane: Helm) -> None:
    values = {"metrics": {"serviceMonitor": {"enabled": True}, "podMonitor": {"enabled": True}}}
    with pytest.raises(HelmError, match="this cluster serves no monitoring"):
        on_plane("install", "phasewatt", str(CHART), values=values)
    plane.kubectl("apply", "--server-side", "-f", str(MONITORING))
    plane.kubectl("wait", "--for=condition=Established", "--timeout=30s", "-f", str(MONITORING))
    on_plane("install", "phasewatt", str(CHART), values=values)
    made = plane.kubectl("get", "podmonitors,servicemonitors", "-n", NAMESPACE, "-o", "name").stdout.split()
    assert len(made) == 2


def test_every_value_at_once_is_accepted(plane: BareControlPlane, on_plane: Helm) -> None:
    values = {
        "watchNamespaces": ["team-a"],
        "networkPolicy": {"enabled": True, "namespaces": ["team-b"], "clients": [{"podSelector": {}}]},
        "tolerations": [{"operator": "Exists"}],
        "priorityClassName": "system-cluster-critical",
    }
    notes = on_plane("install", "phasewatt", str(CHART), "--dry-run=server", values=values)
    assert "watches the namespaces team-a." in notes
