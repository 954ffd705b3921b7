"""GPUs that DRA drivers publish in ResourceSlices. Pure, but for the memory of what was seen."""

from __future__ import annotations

from collections.abc import Iterator

from phasewatt.kube.port import Manifest
from phasewatt.plan.types import GPU, Inventory

DRIVER = "gpu.nvidia.com"
"""Name of the NVIDIA DRA driver. Source: NVIDIA/k8s-dra-driver-gpu."""

_PCIE_ROOT = ("resource.kubernetes.io/pcieRoot", "pcieRoot")
"""The standard attribute, and the driver's own name of it. Source: KEP-4381, standard device attributes."""


class SliceMemory:
    """The ResourceSlices of the GPU driver, by name, and the inventory that they make."""

    def __init__(self) -> None:
        self._slices: dict[str, tuple[int, str, tuple[GPU, ...]]] = {}
        self.inventory = Inventory()

    def observe(self, piece: Manifest, *, deleted: bool = False) -> bool:
        """Take in a slice; whether the inventory changed."""
        if piece["spec"].get("driver") != DRIVER:
            return False
        name = piece["metadata"]["name"]
        if deleted:
            self._slices.pop(name, None)
        else:
            self._slices[name] = _entry(piece)
        return self._recount()

    def replace(self, pieces: list[Manifest]) -> bool:
        """Take in the whole list of slices; whether the inventory changed."""
        mine = [p for p in pieces if p["spec"].get("driver") == DRIVER]
        self._slices = {p["metadata"]["name"]: _entry(p) for p in mine}
        return self._recount()

    def _recount(self) -> bool:
        # Slices of an older generation of a pool are leftovers that the driver is about to delete.
        newest: dict[str, int] = {}
        for generation, pool, _ in self._slices.values():
            newest[pool] = max(generation, newest.get(pool, 0))
        current = (gpus for generation, pool, gpus in self._slices.values() if generation == newest[pool])
        gpus = tuple(sorted((gpu for piece in current for gpu in piece), key=lambda g: (g.node, g.pool, g.device)))
        before, self.inventory = self.inventory, Inventory(gpus=gpus, dra=bool(self._slices))
        return before != self.inventory


def _entry(piece: Manifest) -> tuple[int, str, tuple[GPU, ...]]:
    pool = piece["spec"]["pool"]
    return int(pool["generation"]), str(pool["name"]), tuple(_gpus(piece))


def _gpus(piece: Manifest) -> Iterator[GPU]:
    spec = piece["spec"]
    for device in spec.get("devices", []):
        attributes = device.get("attributes", {})
        uuid = _text(attributes, "uuid")
        if uuid:
            yield GPU(
                node=device.get("nodeName") or spec.get("nodeName", ""),
                pool=spec["pool"]["name"],
                device=device["name"],
                uuid=uuid,
                product=_text(attributes, "productName"),
                pcie_root=_text(attributes, *_PCIE_ROOT),
            )


def _text(attributes: Manifest, *names: str) -> str:
    return next((attributes[name]["string"] for name in names if "string" in attributes.get(name, {})), "")
