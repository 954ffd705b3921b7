"""Which of the free GPUs a container should get: those that reach each other without the host bridge. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from phasewatt_mockgpu.inventory import NodeGpu


def preferred_gpus(available: Sequence[NodeGpu], must_include: Sequence[NodeGpu], size: int) -> list[NodeGpu]:
    """`size` GPUs of `available`, all of `must_include` among them, on as few PCIe roots as possible.

    A root that already holds a chosen GPU comes first; then the smallest root that has room for all the rest, which
    keeps large roots whole for larger requests; then the largest. Ties go to the lower index. Fewer than `size` when
    there are no more.
    """
    chosen = list(must_include)
    rest = sorted((gpu for gpu in available if gpu not in chosen), key=lambda gpu: gpu.index)
    while len(chosen) < size and rest:
        room = Counter(gpu.gpu.pcie_root for gpu in rest)
        used = {gpu.gpu.pcie_root for gpu in chosen}
        missing = size - len(chosen)

        def cost(
            root: str, used: set[str] = used, room: Counter[str] = room, missing: int = missing
        ) -> tuple[bool, bool, int]:
            fits = room[root] >= missing
            return root not in used, not fits, room[root] if fits else -room[root]

        root = min(room, key=cost)
        taken = [gpu for gpu in rest if gpu.gpu.pcie_root == root][:missing]
        chosen += taken
        rest = [gpu for gpu in rest if gpu not in taken]
    return chosen
