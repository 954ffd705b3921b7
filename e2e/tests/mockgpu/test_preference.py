from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from phasewatt_mockgpu.inventory import Gpu, NodeGpu
from phasewatt_mockgpu.preference import preferred_gpus


def gpus(*roots: int) -> list[NodeGpu]:
    """One GPU below each of the numbered roots, in order of index."""
    return [
        NodeGpu(
            index,
            f"GPU-{index}",
            Gpu(
                product="P",
                architecture="A",
                cuda_compute_capability="8.0.0",
                memory=1,
                pci_bus_id=f"0000:{index:02x}:00.0",
                pcie_root=f"pci0000:{root:02x}",
            ),
        )
        for index, root in enumerate(roots)
    ]


def indices(chosen: list[NodeGpu]) -> list[int]:
    return sorted(gpu.index for gpu in chosen)


def test_a_pair_comes_from_one_root() -> None:
    node = gpus(0, 0, 1, 1)
    assert indices(preferred_gpus(node[1:], [], 2)) == [2, 3]


def test_the_root_of_a_gpu_that_must_be_there_comes_first() -> None:
    node = gpus(0, 0, 1, 1)
    assert indices(preferred_gpus(node, [node[2]], 2)) == [2, 3]


def test_the_smallest_root_that_fits_keeps_the_large_one_whole() -> None:
    node = gpus(0, 0, 0, 0, 1, 1)
    assert indices(preferred_gpus(node, [], 2)) == [4, 5]


def test_more_than_one_root_holds_starts_with_the_largest() -> None:
    node = gpus(0, 1, 1, 1, 2)
    assert indices(preferred_gpus(node, [], 4)) == [0, 1, 2, 3]


@given(st.data(), st.lists(st.integers(0, 3), min_size=1, max_size=12))
def test_any_answer_is_one_that_kubelet_accepts(data: st.DataObject, roots: list[int]) -> None:
    node = gpus(*roots)
    available = data.draw(st.lists(st.sampled_from(node), unique=True, min_size=1))
    must = data.draw(st.lists(st.sampled_from(available), unique=True))
    size = data.draw(st.integers(max(1, len(must)), len(available)))
    chosen = preferred_gpus(available, must, size)
    assert len(chosen) == size == len({gpu.uuid for gpu in chosen})
    assert all(gpu in available for gpu in chosen)
    assert all(gpu in chosen for gpu in must)
    largest = max(Counter(gpu.gpu.pcie_root for gpu in available).values())
    if not must and size <= largest:
        assert len({gpu.gpu.pcie_root for gpu in chosen}) == 1
