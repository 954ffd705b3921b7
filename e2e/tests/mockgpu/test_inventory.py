from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from phasewatt_mockgpu.inventory import Inventory, InventoryError, gpu_uuid, load_inventory
from pydantic import ValidationError


def test_shipped_inventory_is_two_roots_of_two_a100(inventory: dict[str, Any]) -> None:
    node = Inventory.model_validate(inventory).for_node("any")
    assert [gpu.name for gpu in node.dra] == ["gpu-0", "gpu-1", "gpu-2", "gpu-3"]
    assert node.device_plugin == ()
    assert [gpu.gpu.pcie_root for gpu in node.dra] == ["pci0000:16"] * 2 + ["pci0000:64"] * 2
    assert {(gpu.gpu.product, gpu.gpu.memory) for gpu in node.dra} == {("NVIDIA A100-PCIE-40GB", 40 * 2**30)}


@given(st.text(min_size=1), st.integers(0, 63), st.text(min_size=1), st.integers(0, 63))
def test_derived_uuids_are_stable_and_differ(node: str, index: int, other_node: str, other_index: int) -> None:
    assert gpu_uuid(node, index) == gpu_uuid(node, index)
    same = (node, index) == (other_node, other_index)
    assert (gpu_uuid(node, index) == gpu_uuid(other_node, other_index)) == same


def test_a_node_entry_replaces_the_default(inventory: dict[str, Any]) -> None:
    uuid = "GPU-fef8089b-4820-abfc-e83e-94318197576e"
    special = {**inventory["default"], "gpus": [{**inventory["default"]["gpus"][0], "uuid": uuid}], "dra": [0]}
    parsed = Inventory.model_validate({**inventory, "nodes": {"special": special}})
    assert [gpu.uuid for gpu in parsed.for_node("special").dra] == [uuid]
    assert len(parsed.for_node("other").dra) == 4


def test_dra_takes_what_the_device_plugin_leaves(inventory: dict[str, Any]) -> None:
    del inventory["default"]["dra"]
    inventory["default"]["devicePlugin"] = [1, 2]
    node = Inventory.model_validate(inventory).for_node("any")
    assert [gpu.index for gpu in node.dra] == [0, 3]
    assert [gpu.index for gpu in node.device_plugin] == [1, 2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dra": [0, 1], "devicePlugin": [1]}, r"GPUs \[1\] are in dra and devicePlugin"),
        ({"dra": [4]}, r"dra: \[4\] name no GPU; the node has indices 0 to 3"),
        ({"dra": [0], "devicePlugin": [-1]}, r"devicePlugin: \[-1\] name no GPU"),
        ({"dra": [0, 0]}, "listed twice"),
        ({"driverVersion": "570.133.07"}, "driverVersion"),
        ({"colour": "green"}, "colour"),
    ],
)
def test_impossible_nodes_are_refused(inventory: dict[str, Any], change: dict[str, Any], message: str) -> None:
    inventory["default"].update(change)
    with pytest.raises(ValidationError, match=message):
        Inventory.model_validate(inventory)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nvlinkPeers": [1]}, "NVLink is mutual: add 0 to nvlinkPeers of GPU 1"),
        ({"nvlinkPeers": [0]}, "not another GPU"),
        ({"pciBusId": "0000:18:00.0"}, "one pciBusId"),
        ({"pciBusId": "18:00"}, "pciBusId"),
        ({"pcieRoot": "root-a"}, "pcieRoot"),
        ({"memory": "0"}, "memory"),
        ({"memory": "lots"}, "memory"),
        ({"uuid": "GPU-fef8089b-4820-abfc-e83e-94318197576e"}, "repeat on every node"),
    ],
)
def test_impossible_gpus_are_refused(inventory: dict[str, Any], change: dict[str, Any], message: str) -> None:
    inventory["default"]["gpus"][0].update(change)
    with pytest.raises(ValidationError, match=message):
        Inventory.model_validate(inventory)


def test_load_names_the_file_and_the_place(tmp_path: Path, inventory: dict[str, Any]) -> None:
    file = tmp_path / "inventory.yaml"
    with pytest.raises(InventoryError, match="cannot read the inventory: No such file"):
        load_inventory(file)
    file.write_text("default: [")
    with pytest.raises(InventoryError, match="not YAML"):
        load_inventory(file)
    del inventory["default"]["gpus"][2]["product"]
    file.write_text(yaml.safe_dump(inventory))
    with pytest.raises(InventoryError, match=r"inventory\.yaml: default\.gpus\.2\.product: Field required"):
        load_inventory(file)
