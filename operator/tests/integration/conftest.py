"""Fixtures over a real API server: etcd and kube-apiserver as processes, one pair for the whole session."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from phasewatt_testbed.bare import BareControlPlane

CRDS = Path(__file__).parents[3] / "crds"
HERE = Path(__file__).parent
LOGS = pytest.StashKey[list[Path]]()

_numbers = itertools.count()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything of this folder, so that `-m 'not integration'` is the fast loop."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.integration)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """After a failure say where the control plane's logs are; pytest keeps the folders of the last three runs."""
    if terminalreporter.stats.get("failed") or terminalreporter.stats.get("error"):
        for folder in config.stash.get(LOGS, []):
            terminalreporter.write_line(f"control plane logs: {folder}")


@pytest.fixture(scope="session")
def apiserver(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BareControlPlane]:
    """etcd and kube-apiserver, no controllers: nothing changes an object but the test."""
    yield from _control_plane(request, tmp_path_factory.mktemp("apiserver"), controllers=False)


@pytest.fixture(scope="session")
def controlplane(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[BareControlPlane]:
    """Another etcd and kube-apiserver, with the controller manager: Deployments make pods, garbage is collected."""
    yield from _control_plane(request, tmp_path_factory.mktemp("controlplane"), controllers=True)


@pytest.fixture(scope="session")
def crds(apiserver: BareControlPlane) -> BareControlPlane:
    """The API server of `apiserver` with our CRDs served."""
    return install_crds(apiserver)


@pytest.fixture(scope="session")
def controlplane_crds(controlplane: BareControlPlane) -> BareControlPlane:
    """The control plane of `controlplane` with our CRDs served."""
    return install_crds(controlplane)


@pytest.fixture
def namespace(apiserver: BareControlPlane) -> str:
    """A fresh namespace of `apiserver` for one test. It is not deleted: without controllers it could only hang."""
    return new_namespace(apiserver)


@pytest.fixture
def controlplane_namespace(controlplane: BareControlPlane) -> Iterator[str]:
    """A fresh namespace of `controlplane` for one test, deleted after it."""
    name = new_namespace(controlplane)
    yield name
    controlplane.kubectl("delete", "namespace", name, "--wait=false")


def install_crds(plane: BareControlPlane) -> BareControlPlane:
    plane.install_crds(CRDS)
    return plane


def new_namespace(plane: BareControlPlane) -> str:
    name = f"test-{next(_numbers)}"
    plane.http.post("/api/v1/namespaces", json={"metadata": {"name": name}}).raise_for_status()
    return name


def _control_plane(request: pytest.FixtureRequest, folder: Path, *, controllers: bool) -> Iterator[BareControlPlane]:
    plane = BareControlPlane(folder, controllers=controllers)
    request.config.stash.setdefault(LOGS, []).append(plane.logs)
    with plane:
        yield plane
