"""What the operator writes into a container is refused from a user, or it is named here as the user's to change."""

from __future__ import annotations

from typing import Any

import pytest
from phasewatt.api.ownership import ENGINE_ARGS, ENGINE_ENV, ROUTER_ARGS, Owned
from phasewatt.api.v1alpha1 import Spec
from phasewatt.build.container import engine_container
from phasewatt.build.labels import Owner
from phasewatt.build.router import router_deployment
from phasewatt.plan.decisions import Decisions, make_decisions
from phasewatt.plan.types import Inventory, Settings

SETTINGS = Settings(engine_image="engine", router_image="router")

USERS_ENV = {
    *("HOME", "USER", "VLLM_CACHE_ROOT", "VLLM_ENGINE_READY_TIMEOUT_S", "UCX_CUDA_IPC_ENABLE_GET_ZCOPY"),
    *("UCX_PROTO_INFO", "HF_HOME", "HF_TOKEN"),
}
"""Harmless to change; HF_HOME and HF_TOKEN are refused only where the source sets them."""

USERS_ROUTER_ARGS = {
    *("--worker-startup-timeout-secs", "--worker-startup-check-interval", "--health-check-interval-secs"),
    *("--health-failure-threshold", "--health-success-threshold", "--disable-retries"),
}

ROLE = {"maxNumSeqs": 8, "maxBatchedTokens": 512}
WAYS: list[dict[str, Any]] = [
    {"prefill": {**ROLE, "gpuMemory": {"kvCache": "1Gi"}}, "decode": {**ROLE, "gpuMemory": {"utilizationPercent": 90}}},
    {"gpus": {"allocation": "DevicePlugin"}},
    {"gpus": {"allocation": "None"}},
    {"gpus": {"allocation": "DRA"}, "podLayout": "SharedPod"},
    {"gpus": {"allocation": "DRA"}, "security": {"allowHostPID": True}},
    {"mode": "Colocated", "colocated": {"engines": 2}},
]


def names(owned: tuple[Owned, ...]) -> set[str]:
    return {name for entry in owned for name in entry.names}


def flags(arguments: list[str]) -> set[str]:
    return {argument.partition("=")[0] for argument in arguments if argument.startswith("--")}


def decided(way: dict[str, Any]) -> tuple[Spec, Decisions]:
    model = {"name": "llama", "source": {"huggingFace": {"tokenSecretRef": {"name": "hf"}, "cacheClaim": "cache"}}}
    spec = Spec.model_validate({"model": model, "engine": {"maxModelLen": 4096}, **way})
    decisions = make_decisions(spec, Inventory())
    assert isinstance(decisions, Decisions)
    return spec, decisions


@pytest.mark.parametrize("way", WAYS)
def test_engine_arguments_and_environment(way: dict[str, Any]) -> None:
    spec, decisions = decided(way)
    for engine in decisions.engines:
        container = engine_container(spec, decisions, SETTINGS, engine)
        assert {"--port"} <= flags(container["args"]) <= names(ENGINE_ARGS)
        assert {variable["name"] for variable in container["env"]} <= names(ENGINE_ENV) | USERS_ENV


@pytest.mark.parametrize("way", WAYS)
def test_router_arguments(way: dict[str, Any]) -> None:
    spec, decisions = decided(way)
    manifest = router_deployment(Owner("chat", "default", "uid"), spec, decisions, SETTINGS, 0)
    (container,) = manifest["spec"]["template"]["spec"]["containers"]
    assert {"--port"} <= flags(container["args"]) <= names(ROUTER_ARGS) | USERS_ROUTER_ARGS
