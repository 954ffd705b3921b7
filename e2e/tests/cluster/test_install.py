"""Helm: upgrade from the previous chart, uninstall under serving pods, an install that sees one namespace only."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from phasewatt_suite.cluster import Cluster, KubectlError
from phasewatt_suite.install import CHART, NAMESPACE, HelmError, Release, install_operator
from phasewatt_suite.objects import SIM_IMAGE, inference
from phasewatt_suite.serving import Served

Serve = Callable[..., Served]


@pytest.fixture
def restored(cluster: Cluster, release: Release) -> Iterator[Release]:
    """Leave the session's release as it was, whatever the test did to it."""
    yield release
    install_operator(cluster, engine_image=SIM_IMAGE)


def test_upgrade_and_uninstall_leave_serving_pods_alone(
    cluster: Cluster, restored: Release, served: Serve, tmp_path: Path
) -> None:
    previous = shutil.copytree(CHART, tmp_path / "phasewatt")
    metadata = previous / "Chart.yaml"
    metadata.write_text(metadata.read_text().replace("version: 0.1.0", "version: 0.0.9", 1))
    restored.upgrade(previous, engine__image=f'"{SIM_IMAGE}"')
    chat = served(inference())
    pods = {p["metadata"]["uid"] for p in cluster.list("pods", chat.namespace)}
    restored.upgrade(engine__image=f'"{SIM_IMAGE}"')
    restored.uninstall()
    assert cluster.get("crd", "disaggregatedinferences.phasewatt.io")
    assert {p["metadata"]["uid"] for p in cluster.list("pods", chat.namespace)} == pods
    assert chat.text("still served", 4)


def test_an_install_for_listed_namespaces_has_no_cluster_wide_rights(
    cluster: Cluster, restored: Release, namespace: str
) -> None:
    restored.uninstall()
    restored.upgrade(engine__image=f'"{SIM_IMAGE}"', watchNamespaces=f'["{namespace}"]')
    cluster.apply(inference(), namespace=namespace)
    cluster.wait_condition("chat", namespace, "Ready", timeout=120)
    account = next(a for a in cluster.list("serviceaccounts", NAMESPACE, "app.kubernetes.io/name=phasewatt"))
    user = f"system:serviceaccount:{NAMESPACE}:{account['metadata']['name']}"
    for verb, resource in (("list", "pods"), ("create", "deployments.apps"), ("get", "secrets"), ("list", "dinf")):
        with pytest.raises(KubectlError):
            cluster.run("auth", "can-i", verb, resource, "--as", user, "-n", "default", "-q")
    cluster.run("auth", "can-i", "list", "resourceslices.resource.k8s.io", "--as", user, "-q")


def test_a_misspelt_value_is_refused(restored: Release) -> None:
    with pytest.raises(HelmError, match="watchNamespace"):
        restored.upgrade(watchNamespace='["typo"]')
