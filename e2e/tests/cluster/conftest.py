"""One cluster and one installed operator for the whole session; a namespace and a set of simulated engines per test."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from phasewatt_suite import objects
from phasewatt_suite.cluster import Cluster
from phasewatt_suite.install import Release, install_operator
from phasewatt_suite.serving import Served, api_client
from phasewatt_testbed import binaries
from phasewatt_testbed.paths import REPO, ClusterPaths

NAME = os.environ.get("PHASEWATT_TESTBED", "phasewatt-e2e")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The cluster that PHASEWATT_KUBECONFIG names, else one of the testbed's: brought up here, removed at the end.

    PHASEWATT_KEEP=1 leaves it up, for a look around or for a faster next run.
    """
    if existing := os.environ.get("PHASEWATT_KUBECONFIG"):
        yield Cluster(Path(existing), binaries.ensure("kubectl"))
        return
    try:
        testbed("up")
        testbed("load")
        yield Cluster(ClusterPaths(NAME).kubeconfig, binaries.ensure("kubectl"))
    finally:
        if not os.environ.get("PHASEWATT_KEEP"):
            testbed("down")


def testbed(verb: str) -> None:
    subprocess.run(["phasewatt-testbed", verb, "--name", NAME], check=True, cwd=REPO)


@pytest.fixture(scope="session")
def http(cluster: Cluster) -> Iterator[Any]:
    """An HTTP client of the API server; services and pods are reached through its proxy."""
    with api_client(cluster) as client:
        yield client


@pytest.fixture(scope="session")
def release(cluster: Cluster) -> Release:
    """The operator, installed by the chart, with the simulated engine as the default image."""
    return install_operator(cluster, engine_image=objects.SIM_IMAGE)


@pytest.fixture
def namespace(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace of this test's own; what is in it is printed when the test fails."""
    label = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[:40].strip("-")
    with cluster.temporary_namespace(f"{label}-{secrets.token_hex(2)}") as name:
        yield name


@pytest.fixture
def served(cluster: Cluster, release: Release, namespace: str, http: Any) -> Any:
    """Apply an object, wait until it is Ready, and return its endpoint."""

    def serve(manifest: dict[str, Any], timeout: float = 120) -> Served:
        cluster.apply(manifest, namespace=namespace)
        name = manifest["metadata"]["name"]
        cluster.wait_condition(name, namespace, "Ready", timeout=timeout)
        return Served(http, namespace, name, manifest["spec"]["model"]["name"])

    return serve
