"""What holds for the children of every object, however it is written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from phasewatt.controllers.decide import Resolution, decide, resolve
from phasewatt.plan.types import GPU, Inventory, Manifest, Observed, Settings

SETTINGS = Settings("e:1", "r:1")
roles = st.fixed_dictionaries(
    {},
    optional={
        "engines": st.integers(1, 4),
        "tensorParallelSize": st.sampled_from([1, 2, 4]),
        "gpuMemory": st.sampled_from([{"utilizationPercent": 90}, {"kvCache": "28Gi"}]),
        "env": st.just([{"name": "HOME", "value": "/elsewhere"}, {"name": "A", "value": ""}]),
    },
)
disaggregated = st.fixed_dictionaries(
    {"model": st.just({"name": "m"})},
    optional={
        "prefill": roles,
        "decode": roles,
        "replicas": st.integers(0, 3),
        "podLayout": st.sampled_from(["SeparatePods", "SharedPod"]),
        "security": st.fixed_dictionaries({"allowHostPID": st.booleans()}),
        "gpus": st.fixed_dictionaries({"allocation": st.sampled_from(["Auto", "DRA", "DevicePlugin", "None"])}),
        "engine": st.just({"env": [{"name": "A", "value": "1"}], "args": ["--block-size", "32"]}),
        "suspend": st.booleans(),
    },
)
colocated = st.fixed_dictionaries({"model": st.just({"name": "m"}), "mode": st.just("Colocated"), "colocated": roles})
specs = disaggregated | colocated
inventories = st.sampled_from(
    [Inventory(), Inventory(tuple(GPU("n", "n", f"g{i}", f"U{i}", "", "root") for i in range(8)), dra=True)]
)


def observed(spec: dict[str, Any], inventory: Inventory, name: str = "a" * 40) -> Observed:
    metadata = {"name": name, "namespace": "team", "uid": "u", "generation": 1}
    return Observed(obj={"metadata": metadata, "spec": spec}, inventory=inventory)


def pod_specs(manifests: tuple[Manifest, ...]) -> Iterator[tuple[str, Manifest]]:
    for manifest in manifests:
        if manifest["kind"] == "Deployment":
            yield manifest["metadata"]["name"], manifest["spec"]["template"]["spec"]


@settings(max_examples=150, deadline=None)
@given(spec=specs, inventory=inventories)
def test_children_are_well_formed(spec: dict[str, Any], inventory: Inventory):
    manifests = decide(observed(spec, inventory), SETTINGS).apply
    identities = [(m["kind"], m["metadata"]["name"]) for m in manifests]
    assert len(identities) == len(set(identities))
    for manifest in manifests:
        assert len(manifest["metadata"]["name"]) <= 63
        assert manifest["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "phasewatt"
        assert manifest["metadata"]["ownerReferences"][0]["uid"] == "u"
    for _, pod in pod_specs(manifests):
        volumes = {volume["name"] for volume in pod["volumes"]}
        for container in [*pod.get("initContainers", []), *pod["containers"]]:
            names = [variable["name"] for variable in container.get("env", [])]
            assert len(names) == len(set(names)), "the API server merges env by name"
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        ports = [port["containerPort"] for container in pod["containers"] for port in container["ports"]]
        assert len(ports) == len(set(ports))
        assert pod["enableServiceLinks"] is pod["automountServiceAccountToken"] is False


@settings(max_examples=150, deadline=None)
@given(spec=specs, inventory=inventories)
def test_every_engine_is_given_exactly_its_gpus(spec: dict[str, Any], inventory: Inventory):
    resolution = resolve(observed(spec, inventory), SETTINGS)
    assert isinstance(resolution, Resolution)
    gpus = {engine.name: engine.gpus for engine in resolution.decisions.engines}
    for group in resolution.children.groups:
        containers = [c for d in group.engines for c in d["spec"]["template"]["spec"]["containers"]]
        assert [container["name"] for container in containers] == list(gpus)
        asked = {c["name"]: int(c["resources"].get("limits", {}).get("nvidia.com/gpu", 0)) for c in containers}
        if group.claim:
            requests = group.claim["spec"]["devices"]["requests"]
            assert {request["name"]: request["exactly"]["count"] for request in requests} == gpus
            assert not any(asked.values())
            whole = resolution.decisions.whole_claim
            claims = {c["name"]: c["resources"]["claims"] for c in containers}
            assert claims == {n: [{"name": "gpus"} if whole else {"name": "gpus", "request": n}] for n in gpus}
        else:
            assert asked == (
                gpus if resolution.decisions.allocation.value == "DevicePlugin" else dict.fromkeys(gpus, 0)
            )


@settings(max_examples=100, deadline=None)
@given(spec=specs, inventory=inventories)
def test_privileges_are_only_what_the_user_granted(spec: dict[str, Any], inventory: Inventory):
    allowed = spec.get("security", {}).get("allowHostPID", False)
    for name, pod in pod_specs(decide(observed(spec, inventory), SETTINGS).apply):
        assert not pod.get("hostPID") or (allowed and "router" not in name)
        assert not {"hostIPC", "hostNetwork"} & set(pod)


@settings(max_examples=100, deadline=None)
@given(spec=disaggregated, inventory=inventories)
def test_the_router_knows_every_engine_by_a_name_that_outlives_its_pod(spec: dict[str, Any], inventory: Inventory):
    resolution = resolve(observed(spec, inventory), SETTINGS)
    assert isinstance(resolution, Resolution)
    for group in resolution.children.groups:
        (container,) = group.router["spec"]["template"]["spec"]["containers"]
        urls = {argument for argument in container["args"] if argument.startswith("http://")}
        expected = set()
        for deployment in group.engines:
            pod = deployment["spec"]["template"]["spec"]
            for engine in pod["containers"]:
                port = next(p["containerPort"] for p in engine["ports"] if p["name"] == "http")
                expected.add(f"http://{pod['hostname']}.{pod['subdomain']}.team.svc:{port}")
        assert urls == expected
