"""A node without a cluster: short-lived folders and an in-memory API server."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from phasewatt_mockgpu.inventory import Inventory, NodeGpus
from phasewatt_mockgpu.plugin import Settings

from .fake_cluster import NODE, FakeCluster, shipped_inventory


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster()


@pytest.fixture
def inventory() -> dict[str, Any]:
    """The shipped inventory as plain data, to change at will."""
    return shipped_inventory()


@pytest.fixture
def node(inventory: dict[str, Any]) -> NodeGpus:
    return Inventory.model_validate(inventory).for_node(NODE)


@pytest.fixture
def root() -> Iterator[Path]:
    # Not tmp_path: the path of a unix socket has 107 bytes at most.
    with tempfile.TemporaryDirectory(prefix="mg-") as folder:
        yield Path(folder)


@pytest.fixture
def settings(root: Path, inventory: dict[str, Any]) -> Settings:
    file = root / "inventory.yaml"
    file.write_text(yaml.safe_dump(inventory))
    return Settings(
        node=NODE,
        inventory=file,
        kubelet_folder=root / "kubelet",
        cdi_folder=root / "cdi",
        engine_environment=root / "engine-env",
        probe_port=0,
    )


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
