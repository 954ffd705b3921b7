"""The operator's pod: restricted, read-only, one of its kind, at the versions of the chart."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from helm_chart import CHART, REPO, Manifest, helm, of_kind, render
from kubeconform import findings


@pytest.fixture(scope="module")
def deployment() -> Manifest:
    return of_kind(render(), "Deployment")[0]


def test_meets_the_restricted_pod_security_level(deployment: Manifest) -> None:
    """Source: Kubernetes documentation, "Pod Security Standards", level Restricted."""
    pod = deployment["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] != 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC", "hostUsers"} & pod.keys()
    volume_kinds = {kind for volume in pod["volumes"] for kind in volume if kind != "name"}
    assert volume_kinds <= {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "projected", "secret"}
    for container in pod["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert not any("hostPort" in port for port in container["ports"])


def test_never_runs_twice(deployment: Manifest) -> None:
    assert deployment["spec"]["replicas"] == 1
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}


def test_images_follow_the_charts_version(deployment: Manifest) -> None:
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == f"ghcr.io/phasewatt/operator:{version}"
    assert f"--router-image=ghcr.io/phasewatt/router:{version}" in container["args"]


def test_images_can_be_replaced() -> None:
    values = {
        "image": {"repository": "r.example/op", "tag": "1"},
        "engine": {"image": "e:1"},
        "router": {"image": "r:1"},
    }
    container = of_kind(render(values), "Deployment")[0]["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == "r.example/op:1"
    assert {"--engine-image=e:1", "--router-image=r:1"} <= set(container["args"])


def test_the_chart_has_the_version_of_the_package() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    package = (REPO / "pyproject.toml").read_text()
    assert f'\nversion = "{chart["version"]}"\n' in package
    assert chart["version"] == chart["appVersion"]


def test_resources_are_bounded(deployment: Manifest) -> None:
    resources: dict[str, Any] = deployment["spec"]["template"]["spec"]["containers"][0]["resources"]
    assert resources["requests"].keys() == {"cpu", "memory"}
    # No CPU limit: throttling would delay reactions and save nothing.
    assert resources["limits"].keys() == {"memory"}


@pytest.mark.parametrize(("keep", "policy"), [(True, "keep"), (False, None)])
def test_crds_outlive_the_release_unless_told_otherwise(keep: bool, policy: str | None) -> None:
    crds = of_kind(render({"crds": {"keep": keep}}), "CustomResourceDefinition")
    assert crds
    assert {c["metadata"].get("annotations", {}).get("helm.sh/resource-policy") for c in crds} == {policy}


def test_a_packaged_chart_holds_the_generated_crds(tmp_path: Path) -> None:
    """In the source tree they are a link to `crds/`; a package has to hold the files themselves."""
    helm("package", str(CHART), "--destination", str(tmp_path))
    with tarfile.open(next(tmp_path.glob("*.tgz"))) as package:
        packed = {Path(m.name).name: package.extractfile(m).read() for m in package if "/files/crds/" in m.name}
    generated = {file.name: file.read_bytes() for file in (REPO / "crds").glob("*.yaml")}
    assert generated
    assert packed == generated


def test_rendering_does_not_change_a_crd() -> None:
    rendered = {c["metadata"]["name"]: c["spec"] for c in of_kind(render(), "CustomResourceDefinition")}
    source = [yaml.safe_load(file.read_text()) for file in (REPO / "crds").glob("*.yaml")]
    assert rendered == {crd["metadata"]["name"]: crd["spec"] for crd in source}


def test_the_crds_are_valid_themselves() -> None:
    for file in (REPO / "crds").glob("*.yaml"):
        assert not findings(file.read_text())
