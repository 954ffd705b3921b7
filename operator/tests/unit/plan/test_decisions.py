"""Every choice and its reason, and every refusal."""

from __future__ import annotations

from typing import Any

import pytest
from phasewatt.api.v1alpha1 import Allocation, Pairing, Spec, Transport
from phasewatt.plan.decisions import Decisions, Refusal, Running, make_decisions
from phasewatt.plan.types import GPU, Inventory

MODEL = {"model": {"name": "m"}}


def gpus(*roots: str, node: str = "n") -> Inventory:
    return Inventory(tuple(GPU(node, node, f"g{i}", f"U{i}", "", root) for i, root in enumerate(roots)), dra=True)


ONE_ROOT = gpus("a", "a")


def decided(inventory: Inventory = ONE_ROOT, running: Running | None = None, **spec: Any) -> Decisions:
    made = make_decisions(Spec.model_validate({**MODEL, **spec}), inventory, running)
    assert isinstance(made, Decisions), made
    return made


def refused(inventory: Inventory, **spec: Any) -> Refusal:
    made = make_decisions(Spec.model_validate({**MODEL, **spec}), inventory)
    assert isinstance(made, Refusal), made
    return made


@pytest.mark.parametrize(
    ("asked", "inventory", "got"),
    [
        ("Auto", gpus("a"), Allocation.DRA),
        ("Auto", Inventory(), Allocation.DEVICE_PLUGIN),
        ("DevicePlugin", gpus("a"), Allocation.DEVICE_PLUGIN),
        ("DRA", Inventory(), Allocation.DRA),
        ("None", gpus("a"), Allocation.NONE),
    ],
)
def test_allocation(asked: str, inventory: Inventory, got: Allocation):
    assert decided(inventory, gpus={"allocation": asked}).allocation.value is got


@pytest.mark.parametrize(
    ("inventory", "tp", "got"),
    [
        (gpus("a", "a"), 1, Pairing.SAME_PCIE_ROOT),
        (gpus("a", "b"), 1, Pairing.SAME_NODE),
        (gpus("", ""), 1, Pairing.SAME_NODE),
        (Inventory(dra=True), 1, Pairing.SAME_NODE),
        (gpus("a", "a", "b", "b"), 2, Pairing.SAME_NODE),
        (gpus("a", "a", "b", "b", "b", "b"), 2, Pairing.SAME_PCIE_ROOT),
    ],
)
def test_pairing_is_by_capacity(inventory: Inventory, tp: int, got: Pairing):
    role = {"tensorParallelSize": tp}
    pairing = decided(inventory, prefill=role, decode=role).pairing
    assert pairing
    assert pairing.value is got


def test_a_root_of_one_node_does_not_add_up_with_its_namesake_of_another():
    both = Inventory((*gpus("a", node="x").gpus, *gpus("a", node="y").gpus), dra=True)
    pairing = decided(both).pairing
    assert pairing
    assert pairing.value is Pairing.SAME_NODE


def test_what_engines_run_on_is_kept_and_the_reason_says_how_to_change_it():
    requests = (("prefill-0", 1), ("decode-0", 1))
    made = decided(Inventory(), Running(Allocation.DRA, Pairing.SAME_PCIE_ROOT, requests))
    assert made.allocation.value is Allocation.DRA
    assert "spec.gpus.allocation" in made.allocation.reason
    assert made.pairing
    assert made.pairing.value is Pairing.SAME_PCIE_ROOT


def test_pairing_is_decided_anew_when_a_group_changes_its_size():
    made = decided(gpus("a", "b"), Running(Allocation.DRA, Pairing.SAME_PCIE_ROOT, (("prefill-0", 8),)))
    assert made.pairing
    assert made.pairing.value is Pairing.SAME_NODE


def test_one_engine_and_cpu_nodes_have_nothing_to_pair():
    assert decided(mode="Colocated").pairing is None
    assert decided(gpus={"allocation": "None"}).pairing is None


@pytest.mark.parametrize(
    ("spec", "got", "whole"),
    [
        ({}, Transport.HOST, False),
        ({"podLayout": "SharedPod"}, Transport.CUDA_IPC, True),
        ({"security": {"allowHostPID": True}}, Transport.CUDA_IPC, True),
        ({"podLayout": "SharedPod", "gpus": {"allocation": "DevicePlugin"}}, Transport.HOST, False),
        ({"podLayout": "SharedPod", "kvTransfer": {"nixl": {"transport": "Host"}}}, Transport.HOST, False),
    ],
)
def test_transport(spec: dict[str, Any], got: Transport, whole: bool):
    made = decided(**spec)
    assert made.transport
    assert made.transport.value is got
    assert made.whole_claim is whole


def test_no_kv_moves_between_colocated_engines():
    made = decided(mode="Colocated", colocated={"engines": 2})
    assert made.backend is made.transport is made.pairing is None


@pytest.mark.parametrize(
    ("inventory", "spec", "reason", "advice"),
    [
        (
            Inventory(),
            {"kvTransfer": {"nixl": {"transport": "CudaIPC"}}, "podLayout": "SharedPod"},
            "TransportNotPossible",
            "DRA",
        ),
        (gpus("a"), {"kvTransfer": {"nixl": {"transport": "CudaIPC"}}}, "TransportNotPossible", "SharedPod"),
        (Inventory(), {"gpus": {"pairing": "SamePCIeRoot"}}, "NeedsDRA", "DRA"),
        (Inventory(), {"gpus": {"selectors": ["true"]}}, "NeedsDRA", "DRA"),
        (gpus("a"), {"router": {"policy": "PowerOfTwo"}}, "PolicyNotPossible", "RoundRobin"),
    ],
)
def test_what_cannot_work_is_refused_with_advice(inventory: Inventory, spec: dict[str, Any], reason: str, advice: str):
    refusal = refused(inventory, **spec)
    assert refusal.reason == reason
    assert advice in refusal.message


def test_power_of_two_works_with_two_engines_of_each_role():
    decided(router={"policy": "PowerOfTwo"}, prefill={"engines": 2}, decode={"engines": 2})
