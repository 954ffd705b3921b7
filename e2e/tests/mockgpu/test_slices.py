from __future__ import annotations

import copy
import dataclasses
import re
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from kubernetes.utils.quantity import parse_quantity
from phasewatt_mockgpu.health import Ailment
from phasewatt_mockgpu.inventory import NodeGpus
from phasewatt_mockgpu.slices import binary_quantity, plan_slices


def published(node: NodeGpus, generation: int = 1) -> dict[str, Any]:
    """The node's slice as the API server would hold it."""
    manifest = plan_slices(node, "node-uid", {}, []).create
    assert manifest is not None
    manifest = copy.deepcopy(manifest)
    manifest["metadata"] |= {"resourceVersion": "7", "uid": "x", "creationTimestamp": "2026-01-01T00:00:00Z"}
    manifest["spec"]["pool"]["generation"] = generation
    return manifest


def test_first_slice_has_the_attributes_of_the_nvidia_driver(node: NodeGpus) -> None:
    manifest = plan_slices(node, "node-uid", {}, []).create
    assert manifest is not None
    assert manifest["metadata"]["ownerReferences"] == [
        {"apiVersion": "v1", "kind": "Node", "name": "worker-1", "uid": "node-uid", "controller": True}
    ]
    assert manifest["spec"]["pool"] == {"name": "worker-1", "generation": 1, "resourceSliceCount": 1}
    first = manifest["spec"]["devices"][0]
    assert first == {
        "name": "gpu-0",
        "attributes": {
            "type": {"string": "gpu"},
            "uuid": {"string": node.dra[0].uuid},
            "productName": {"string": "NVIDIA A100-PCIE-40GB"},
            "brand": {"string": "Nvidia"},
            "architecture": {"string": "Ampere"},
            "cudaComputeCapability": {"version": "8.0.0"},
            "driverVersion": {"version": "570.133.20"},
            "cudaDriverVersion": {"version": "12.8.0"},
            "resource.kubernetes.io/pciBusID": {"string": "0000:17:00.0"},
            "resource.kubernetes.io/pcieRoot": {"string": "pci0000:16"},
        },
        "capacity": {"memory": {"value": "40Gi"}},
    }


def test_nothing_is_written_when_nothing_has_changed(node: NodeGpus) -> None:
    change = plan_slices(node, "node-uid", {}, [published(node, generation=5)])
    assert (change.create, change.replace, change.delete) == (None, None, ())


def test_a_change_replaces_with_the_next_generation(node: NodeGpus) -> None:
    fewer = dataclasses.replace(node, dra=node.dra[:2])
    replacement = plan_slices(fewer, "node-uid", {}, [published(node, generation=5)]).replace
    assert replacement is not None
    assert replacement["spec"]["pool"]["generation"] == 6
    assert replacement["metadata"]["resourceVersion"] == "7"
    assert len(replacement["spec"]["devices"]) == 2


def test_a_node_that_was_registered_again_owns_the_slice(node: NodeGpus) -> None:
    replacement = plan_slices(node, "new-uid", {}, [published(node)]).replace
    assert replacement is not None
    assert replacement["metadata"]["ownerReferences"][0]["uid"] == "new-uid"


def test_strangers_of_the_pool_go_and_are_outnumbered(node: NodeGpus) -> None:
    stranger = published(node, generation=9)
    stranger["metadata"]["name"] = "left-over"
    change = plan_slices(node, "node-uid", {}, [published(node), stranger])
    assert change.delete == ("left-over",)
    assert change.replace is not None
    assert change.replace["spec"]["pool"]["generation"] == 10


def test_without_a_dra_share_nothing_stays_published(node: NodeGpus) -> None:
    empty = dataclasses.replace(node, dra=(), device_plugin=node.dra)
    change = plan_slices(empty, "node-uid", {}, [published(node)])
    assert change.delete == ("worker-1-gpu.nvidia.com",)
    assert change.create is change.replace is None


def test_an_unhealthy_gpu_is_tainted_and_only_that_one(node: NodeGpus) -> None:
    since = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    sick = {"gpu-1": Ailment(message="Xid 79", since=since), "gpu-2": Ailment(message="ECC", since=since, evict=True)}
    replacement = plan_slices(node, "node-uid", sick, [published(node)]).replace
    assert replacement is not None
    assert [d.get("taints") for d in replacement["spec"]["devices"]] == [
        None,
        [{"key": "gpu.nvidia.com/unhealthy", "effect": "NoSchedule", "timeAdded": "2026-01-02T03:04:05Z"}],
        [{"key": "gpu.nvidia.com/unhealthy", "effect": "NoExecute", "timeAdded": "2026-01-02T03:04:05Z"}],
        None,
    ]


@given(st.integers(1, 2**50), st.sampled_from([1, 2**10, 2**20, 2**30]))
def test_binary_quantity_is_exact_and_canonical(mantissa: int, unit: int) -> None:
    text = binary_quantity(mantissa * unit)
    assert parse_quantity(text) == mantissa * unit
    number, suffix = re.fullmatch(r"(\d+)([KMGTPE]i)?", text).groups()  # type: ignore[union-attr]
    assert suffix == "Ei" or int(number) % 1024 != 0
