"""Time to move a KV cache from a prefill engine to a decode engine, by transport: T = bytes / bandwidth + set-up time.

Effective rates: one PCIe 3.0 x16 bridge 11 GB/s, a host copy 9 GB/s, NVMe 2.0 GB/s write and 3.0 GB/s read (assumed for
the hardware of Li et al., "Revisiting Disaggregated LLM Serving"); 100 Gb/s RDMA 12.5 GB/s at line rate; 0.5 GB/s for
UCX's emulation of a GPU read over TCP (measured in vllm-project/vllm#52607). Stages that follow each other add up.
"""

from dataclasses import dataclass
from enum import StrEnum


class Transport(StrEnum):
    """What really carries the bytes."""

    CUDA_IPC = "cuda_ipc"
    RDMA = "rdma"
    SHM = "shm"
    TCP = "tcp"
    DISK = "disk"


@dataclass(frozen=True, slots=True)
class Link:
    """A path between two engines: its stages' effective rates in bytes/s, and the set-up time of a transfer in s."""

    stage_bandwidths: tuple[float, ...]
    setup_s: float = 0.020

    @property
    def bandwidth(self) -> float:
        """Effective rate over all stages, in bytes/s, for bytes that pass them one after another."""
        return 1 / sum(1 / rate for rate in self.stage_bandwidths)


PCIE3_PEER = 11e9
HOST_COPY = 9e9
NVME_WRITE = 2.0e9
NVME_READ = 3.0e9
RDMA_100G = 12.5e9
TCP_EMULATION = 0.5e9

LINKS: dict[Transport, Link] = {
    Transport.CUDA_IPC: Link((PCIE3_PEER,)),
    Transport.RDMA: Link((RDMA_100G,)),
    Transport.SHM: Link((HOST_COPY, HOST_COPY)),
    Transport.TCP: Link((TCP_EMULATION,)),
    Transport.DISK: Link((HOST_COPY, NVME_WRITE, NVME_READ, HOST_COPY)),
}


def wire_seconds(transport: Transport, size_bytes: int) -> float:
    """Seconds that the bytes themselves take, without set-up.

    Raises:
        ValueError: `size_bytes` is negative.
    """
    if size_bytes < 0:
        raise ValueError(f"size_bytes must be >= 0, got {size_bytes}")
    return size_bytes / LINKS[transport].bandwidth


def transfer_seconds(transport: Transport, size_bytes: int) -> float:
    """Seconds of one whole transfer, set-up included.

    Raises:
        ValueError: `size_bytes` is negative.
    """
    return wire_seconds(transport, size_bytes) + LINKS[transport].setup_s
