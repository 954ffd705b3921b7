"""What a user's words become on an engine's command line and in its environment."""

from __future__ import annotations

import json
from typing import Any

import pytest
from phasewatt.api.v1alpha1 import Spec
from phasewatt.build.container import engine_container, model_argument
from phasewatt.plan.decisions import Decisions, make_decisions
from phasewatt.plan.types import Inventory, Manifest, Settings
from phasewatt.plan.units import seconds, to_bytes


def container(role: int = 0, inventory: Inventory = Inventory(dra=True), **spec: Any) -> Manifest:  # noqa: B008
    parsed = Spec.model_validate({"model": {"name": "org/m"}, **spec})
    decisions = make_decisions(parsed, inventory)
    assert isinstance(decisions, Decisions)
    return engine_container(parsed, decisions, Settings("e:1", "r:1"), decisions.engines[role])


def env(made: Manifest) -> dict[str, Any]:
    return {v["name"]: v.get("value", v.get("valueFrom")) for v in made["env"]}


def after(made: Manifest, flag: str) -> str:
    return str(made["args"][made["args"].index(flag) + 1])


@pytest.mark.parametrize(("text", "number"), [("2m", 120), ("90s", 90), ("1h30m", 5400), ("0s", 0), ("1h1m1s", 3661)])
def test_durations(text: str, number: int):
    assert seconds(text) == number


@pytest.mark.parametrize(
    ("text", "number"), [("28G", 28 * 10**9), ("28Gi", 28 * 2**30), ("5", 5), ("1.5k", 1500), ("2Ki", 2048)]
)
def test_quantities(text: str, number: int):
    assert to_bytes(text) == number


@pytest.mark.parametrize(
    ("source", "argument"),
    [
        (None, "org/m"),
        ({"huggingFace": {}}, "org/m"),
        ({"path": "/models/m"}, "/models/m"),
        ({"claim": {"name": "weights"}}, "/model"),
        ({"claim": {"name": "weights", "path": "a/b"}}, "/model/a/b"),
    ],
)
def test_the_model_is_named_alike_for_both_roles(source: dict[str, Any] | None, argument: str):
    model = {"name": "org/m", "source": source} if source else {"name": "org/m"}
    assert model_argument(Spec.model_validate({"model": model})) == argument
    assert [container(role, model=model)["args"][0] for role in (0, 1)] == [argument] * 2


def test_roles_of_the_kv_path():
    configs = [json.loads(after(container(role), "--kv-transfer-config")) for role in (0, 1)]
    assert [config["kv_role"] for config in configs] == ["kv_producer", "kv_consumer"]
    assert {config["kv_buffer_device"] for config in configs} == {"cpu"}
    assert {config["kv_load_failure_policy"] for config in configs} == {"fail"}


def test_cuda_ipc_leaves_no_silent_way_for_the_payload():
    shared, separate = container(podLayout="SharedPod"), container(security={"allowHostPID": True})
    assert env(shared)["UCX_TLS"] == "cuda_ipc,cuda_copy,sm,self"
    assert env(separate)["UCX_TLS"] == "cuda_ipc,cuda_copy,tcp,sm,self"
    for made in (shared, separate):
        assert env(made)["UCX_PROTO_EMULATION_ENABLE"] == "n"
        assert json.loads(after(made, "--kv-transfer-config"))["kv_buffer_device"] == "cuda"


def test_the_users_arguments_come_last_and_those_of_the_role_win():
    made = container(engine={"args": ["--block-size", "32"]}, prefill={"args": ["--seed", "1"]})
    assert made["args"][-4:] == ["--block-size", "32", "--seed", "1"]


def test_the_users_environment_wins_and_that_of_the_role_most():
    common, role = [{"name": "A", "value": "1"}, {"name": "B", "value": "1"}], [{"name": "B", "value": "2"}]
    made = env(container(engine={"env": common}, prefill={"env": role}))
    assert (made["A"], made["B"]) == ("1", "2")


def test_a_token_is_a_reference_never_a_value():
    model = {"name": "m", "source": {"huggingFace": {"tokenSecretRef": {"name": "hf", "key": "t"}}}}
    made = container(model=model)
    assert env(made)["HF_TOKEN"] == {"secretKeyRef": {"name": "hf", "key": "t"}}
    assert not any("HF_TOKEN" in argument for argument in made["args"])


def test_gpu_memory():
    assert after(container(prefill={"gpuMemory": {"utilizationPercent": 85}}), "--gpu-memory-utilization") == "0.85"
    assert after(container(prefill={"gpuMemory": {"kvCache": "28G"}}), "--kv-cache-memory-bytes") == "28000000000"


def test_colocated_engines_have_no_side_channel():
    made = container(mode="Colocated")
    assert [port["name"] for port in made["ports"]] == ["http"]
    assert "--kv-transfer-config" not in made["args"]
    assert not any(name.startswith(("UCX", "VLLM_NIXL")) for name in env(made))
