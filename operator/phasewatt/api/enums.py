"""The closed choices of the API."""

from __future__ import annotations

from enum import StrEnum


class Mode(StrEnum):
    DISAGGREGATED = "Disaggregated"
    COLOCATED = "Colocated"


class Role(StrEnum):
    PREFILL = "prefill"
    DECODE = "decode"
    COLOCATED = "colocated"


class Allocation(StrEnum):
    AUTO = "Auto"
    DRA = "DRA"
    DEVICE_PLUGIN = "DevicePlugin"
    NONE = "None"


class Pairing(StrEnum):
    AUTO = "Auto"
    SAME_PCIE_ROOT = "SamePCIeRoot"
    SAME_NODE = "SameNode"


class Backend(StrEnum):
    AUTO = "Auto"
    NIXL = "NIXL"


class Transport(StrEnum):
    AUTO = "Auto"
    CUDA_IPC = "CudaIPC"
    HOST = "Host"


class OnLoadFailure(StrEnum):
    FAIL = "Fail"
    RECOMPUTE = "Recompute"


class PodLayout(StrEnum):
    SEPARATE_PODS = "SeparatePods"
    SHARED_POD = "SharedPod"


class RouterPolicy(StrEnum):
    ROUND_ROBIN = "RoundRobin"
    RANDOM = "Random"
    CACHE_AWARE = "CacheAware"
    CONSISTENT_HASH = "ConsistentHash"
    POWER_OF_TWO = "PowerOfTwo"
