"""The inventory file: which GPUs a node pretends to have, and which allocator hands each one out.

The file is YAML::

    default:                          # every node that has no entry under `nodes`
      driverVersion: 570.133.20
      cudaDriverVersion: 12.8.0
      gpus:
        - product: NVIDIA A100-PCIE-40GB
          architecture: Ampere
          cudaComputeCapability: 8.0.0
          memory: 40Gi
          pciBusId: "0000:17:00.0"
          pcieRoot: pci0000:16        # GPUs of one root reach each other without crossing the host bridge
          nvlinkPeers: []             # indices of GPUs linked by NVLink, both ways
          uuid: GPU-...               # only under `nodes`; by default derived from node name and index
      dra: [0, 1]                     # indices served by the DRA driver; by default all that devicePlugin leaves
      devicePlugin: []                # indices served as nvidia.com/gpu
    nodes:
      some-node-name: {...}           # same shape; replaces the default as a whole

Move a GPU between the shares only while nothing uses it: the two allocators know nothing of each other.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

import yaml
from kubernetes.utils.quantity import parse_quantity
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

MAX_GPUS = 64
"""Most devices in a slice with taints (k8s.io/api resource/v1, ResourceSliceMaxDevicesWithAdvancedFeatures)."""


class InventoryError(ValueError):
    """The inventory file cannot be used; the text says what to change."""


def _bytes_of(quantity: object) -> object:
    return int(parse_quantity(quantity)) if isinstance(quantity, str) else quantity


Bytes = Annotated[int, BeforeValidator(_bytes_of), Field(gt=0)]
# ResourceSlices accept strict semantic versions only: 570.133.07, as nvidia-smi prints it, is written 570.133.7.
Version = Annotated[str, Field(pattern=r"^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)$")]
GpuIndices = Annotated[tuple[int, ...], Field(max_length=MAX_GPUS)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True)


class Gpu(_Model):
    """One GPU as the NVIDIA DRA driver would describe it. Memory in bytes (a Kubernetes quantity in the file)."""

    product: str = Field(min_length=1, max_length=64)
    brand: str = Field(default="Nvidia", max_length=64)
    architecture: str = Field(min_length=1, max_length=64)
    cuda_compute_capability: Version
    memory: Bytes
    pci_bus_id: str = Field(pattern=r"^[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$")
    pcie_root: str = Field(pattern=r"^pci[0-9a-f]{4}:[0-9a-f]{2}$")
    nvlink_peers: tuple[int, ...] = ()
    uuid: str | None = Field(default=None, pattern=r"^GPU-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")


class NodeInventory(_Model):
    """The GPUs of one node and their two disjoint shares."""

    driver_version: Version
    cuda_driver_version: Version
    gpus: tuple[Gpu, ...] = Field(max_length=MAX_GPUS)
    dra: GpuIndices | None = None
    device_plugin: GpuIndices = ()

    @property
    def dra_share(self) -> tuple[int, ...]:
        """Indices served by the DRA driver."""
        if self.dra is not None:
            return self.dra
        return tuple(index for index in range(len(self.gpus)) if index not in self.device_plugin)

    @model_validator(mode="after")
    def _shares_are_disjoint(self) -> Self:
        for name, share in (("dra", self.dra_share), ("devicePlugin", self.device_plugin)):
            unknown = [index for index in share if index not in range(len(self.gpus))]
            if unknown:
                raise ValueError(f"{name}: {unknown} name no GPU; the node has indices 0 to {len(self.gpus) - 1}")
            if len(set(share)) != len(share):
                raise ValueError(f"{name}: an index is listed twice in {list(share)}")
        both = sorted(set(self.dra_share) & set(self.device_plugin))
        if both:
            raise ValueError(
                f"GPUs {both} are in dra and devicePlugin; nothing reconciles the two books, name each GPU in one"
            )
        return self

    @model_validator(mode="after")
    def _hardware_is_possible(self) -> Self:
        buses = [gpu.pci_bus_id for gpu in self.gpus]
        if len(set(buses)) != len(buses):
            raise ValueError("two GPUs have one pciBusId; each needs its own")
        for index, gpu in enumerate(self.gpus):
            for peer in gpu.nvlink_peers:
                if peer == index or peer not in range(len(self.gpus)):
                    raise ValueError(f"GPU {index}: nvlinkPeers names {peer}, which is not another GPU of the node")
                if index not in self.gpus[peer].nvlink_peers:
                    raise ValueError(f"NVLink is mutual: add {index} to nvlinkPeers of GPU {peer}")
        uuids = [gpu.uuid for gpu in self.gpus if gpu.uuid]
        if len(set(uuids)) != len(uuids):
            raise ValueError("two GPUs have one uuid; each needs its own")
        return self


class Inventory(_Model):
    """The whole file: a default for every node, and exceptions by node name."""

    default: NodeInventory
    nodes: dict[str, NodeInventory] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _default_names_no_uuid(self) -> Self:
        if any(gpu.uuid for gpu in self.default.gpus):
            raise ValueError("default: uuid would repeat on every node; move it under nodes.<node name>")
        return self

    def for_node(self, node: str) -> NodeGpus:
        """The GPUs of `node`, each with its UUID."""
        entry = self.nodes.get(node, self.default)
        gpus = tuple(NodeGpu(index, gpu.uuid or gpu_uuid(node, index), gpu) for index, gpu in enumerate(entry.gpus))
        return NodeGpus(
            node=node,
            driver_version=entry.driver_version,
            cuda_driver_version=entry.cuda_driver_version,
            dra=tuple(gpus[index] for index in entry.dra_share),
            device_plugin=tuple(gpus[index] for index in entry.device_plugin),
        )


@dataclass(frozen=True)
class NodeGpu:
    """A GPU in its place: `index` on the node, and a UUID unique in the cluster."""

    index: int
    uuid: str
    gpu: Gpu

    @property
    def name(self) -> str:
        """Device name, as the NVIDIA driver builds it from the minor number."""
        return f"gpu-{self.index}"


@dataclass(frozen=True)
class NodeGpus:
    """All GPUs of a node, split by the allocator that owns them."""

    node: str
    driver_version: str
    cuda_driver_version: str
    dra: tuple[NodeGpu, ...]
    device_plugin: tuple[NodeGpu, ...]

    @property
    def names(self) -> frozenset[str]:
        """Device names of both shares."""
        return frozenset(gpu.name for gpu in (*self.dra, *self.device_plugin))


def gpu_uuid(node: str, index: int) -> str:
    """A UUID that the same node and index always get, in NVML's form (``GPU-`` and a lower-case UUID)."""
    return f"GPU-{uuid.uuid5(uuid.NAMESPACE_DNS, f'{index}.{node}.mockgpu.phasewatt.io')}"


def load_inventory(path: Path) -> Inventory:
    """Read and check the inventory file.

    Raises InventoryError naming the file, the place in it and what to change.
    """
    try:
        return Inventory.model_validate(yaml.safe_load(path.read_text()))
    except OSError as error:
        raise InventoryError(f"{path}: cannot read the inventory: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise InventoryError(f"{path}: not YAML: {error}") from error
    except ValidationError as error:
        places = (f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors())
        raise InventoryError(f"{path}: " + "; ".join(places)) from error
