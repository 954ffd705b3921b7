"""Every example is taken by the API server, planned by the operator's own code, and so are the children it makes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from helm_chart import REPO
from kubeconform import findings
from phasewatt.cli import main
from phasewatt.controllers.decide import decide
from phasewatt.plan.types import GPU, Inventory, Manifest, Observed, Settings
from phasewatt_testbed.bare import BareControlPlane

EXAMPLES = sorted((REPO / "examples").glob("*.yaml"))
SETTINGS = Settings(engine_image="vllm/vllm-openai:v0.32.0", router_image="ghcr.io/phasewatt/router:0.1.0")
NAMESPACE = "examples"

# What a node of four GPUs below one PCIe root publishes.
NODE = Inventory(
    gpus=tuple(GPU("node", "node", f"gpu-{i}", f"GPU-{i}", "NVIDIA A100", "pci0000:16") for i in range(4)), dra=True
)

every_example = pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)


def documents(file: Path) -> list[Manifest]:
    return list(yaml.safe_load_all(file.read_text()))


def inference(file: Path) -> Manifest:
    (found,) = (d for d in documents(file) if d["kind"] == "DisaggregatedInference")
    return found


def children(file: Path) -> list[Manifest]:
    obj = inference(file)
    live = {**obj, "metadata": {**obj["metadata"], "namespace": NAMESPACE, "uid": "1", "generation": 1}}
    outcome = decide(Observed(live, inventory=NODE), SETTINGS)
    stalled = next(c for c in outcome.status["conditions"] if c["type"] == "Stalled")
    assert stalled["status"] == "False", stalled["message"]
    return list(outcome.apply)


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BareControlPlane]:
    """An API server with our CRDs and a namespace that enforces the restricted Pod Security level."""
    with BareControlPlane(tmp_path_factory.mktemp("examples")) as plane:
        plane.kubectl("apply", "--server-side", "-f", str(REPO / "crds"))
        plane.kubectl("wait", "--for=condition=Established", "--timeout=60s", "-f", str(REPO / "crds"))
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        plane.http.post("/api/v1/namespaces", json={"metadata": {"name": NAMESPACE, "labels": labels}})
        account = {"metadata": {"name": "default"}}
        plane.http.post(f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts", json=account).raise_for_status()
        yield plane


@every_example
def test_starts_with_a_comment_that_says_what_it_is_for(file: Path) -> None:
    assert file.read_text().startswith("# ")


def test_the_table_of_examples_is_complete() -> None:
    readme = (REPO / "examples" / "README.md").read_text()
    assert [file.name for file in EXAMPLES if f"]({file.name})" not in readme] == []


def test_our_images_are_at_the_version_of_the_package() -> None:
    version = next(
        line.split('"')[1] for line in (REPO / "pyproject.toml").read_text().splitlines() if line.startswith("version")
    )
    images = {inference(file)["spec"].get("engine", {}).get("image") for file in EXAMPLES} - {None}
    assert images == {f"ghcr.io/phasewatt/engine-{kind}:{version}" for kind in ("cpu", "sim")}


@every_example
def test_its_children_are_valid(file: Path) -> None:
    # JSON is YAML too, and quotes what Go would otherwise read as a boolean (`n`).
    assert not findings("\n---\n".join(json.dumps(m) for m in [*documents(file), *children(file)]))


@pytest.mark.integration
@every_example
def test_the_api_server_takes_it_and_its_children(file: Path, plane: BareControlPlane) -> None:
    made = [{k: v for k, v in c.items() if k != "status"} for c in children(file)]
    for manifest in [*documents(file), *made]:
        strict = ("--server-side", "--dry-run=server", "--validate=strict", "-n", NAMESPACE)
        plane.kubectl("apply", *strict, "-f", "-", stdin=json.dumps(manifest))


@pytest.mark.integration
@every_example
def test_its_pods_are_admitted_where_restricted_is_enforced(file: Path, plane: BareControlPlane) -> None:
    for deployment in (c for c in children(file) if c["kind"] == "Deployment"):
        template: dict[str, Any] = deployment["spec"]["template"]
        metadata = {**template["metadata"], "name": deployment["metadata"]["name"]}
        pod = {"apiVersion": "v1", "kind": "Pod", **template, "metadata": metadata}
        answer = plane.http.post(f"/api/v1/namespaces/{NAMESPACE}/pods?dryRun=All", json=pod)
        assert answer.status_code == 201, answer.text


@every_example
def test_the_command_line_plans_it_as_yaml_that_kubectl_reads_the_same(file: Path) -> None:
    """`kubectl` reads YAML 1.1, where an unquoted `n` is a boolean: kubeconform reads it the same way."""
    planned = CliRunner().invoke(main, ["plan", str(file), "-o", "yaml"])
    assert planned.exit_code == 0, planned.output
    assert not findings(planned.output)
    assert {"Deployment", "Service"} <= {m["kind"] for m in yaml.safe_load_all(planned.output)}
