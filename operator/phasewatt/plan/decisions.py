"""What the object leaves open, decided: GPU allocation, pairing, KV backend and transport, each with its reason.

`Auto` is decided from what the cluster *has*, never from what is free at the moment, and a decision that engines
already run on is kept: a GPU driver that restarts must not restart the engines.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Generic, TypeVar

from phasewatt.api.v1alpha1 import Allocation, Backend, Mode, Pairing, PodLayout, RouterPolicy, Spec, Transport
from phasewatt.plan.topology import Engine, engines_of, gpus_per_group
from phasewatt.plan.types import Inventory

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Choice(Generic[T]):
    """A decided value and one sentence that says why, and what would change it."""

    value: T
    reason: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why this object cannot work on this cluster, as the reason and message of `Stalled`."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Running:
    """What live children show of earlier decisions; None where there is none to keep."""

    allocation: Allocation | None = None
    pairing: Pairing | None = None
    requests: tuple[tuple[str, int], ...] = ()
    """Requests of the live claims, as name and count; `pairing` is kept only while these stay."""


@dataclass(frozen=True, slots=True)
class Decisions:
    """Everything decided for one object. `backend` and `transport` are None where no KV moves between engines."""

    mode: Choice[Mode]
    allocation: Choice[Allocation]
    pairing: Choice[Pairing] | None
    backend: Choice[Backend] | None
    transport: Choice[Transport] | None
    engines: tuple[Engine, ...]

    @property
    def whole_claim(self) -> bool:
        """Whether every engine sees all GPUs of its group and has to pin itself to its own."""
        return self.transport is not None and self.transport.value is Transport.CUDA_IPC


def make_decisions(spec: Spec, inventory: Inventory, running: Running | None = None) -> Decisions | Refusal:
    """Decide what the object leaves open, or say why it cannot work here."""
    running = running or Running()
    engines = engines_of(spec)
    allocation = _allocation(spec, inventory, running)
    if refusal := _refuse(spec, inventory, allocation.value, engines):
        return refusal
    disaggregated = spec.mode is Mode.DISAGGREGATED
    return Decisions(
        mode=Choice(spec.mode, "spec.mode asks for it."),
        allocation=allocation,
        pairing=_pairing(spec, inventory, allocation.value, engines, running),
        backend=_backend(spec) if disaggregated else None,
        transport=_transport(spec, allocation.value) if disaggregated else None,
        engines=engines,
    )


def _allocation(spec: Spec, inventory: Inventory, running: Running) -> Choice[Allocation]:
    asked = spec.gpus.allocation
    if asked is not Allocation.AUTO:
        return Choice(asked, "spec.gpus.allocation asks for it.")
    return _kept(running.allocation, _allocation_by_capacity(spec, inventory), "spec.gpus.allocation")


def _allocation_by_capacity(spec: Spec, inventory: Inventory) -> Choice[Allocation]:
    if inventory.dra:
        return Choice(Allocation.DRA, "The cluster publishes GPUs by DRA, which gives each engine exact GPUs.")
    return Choice(
        Allocation.DEVICE_PLUGIN,
        f"No ResourceSlice publishes GPUs here, so {spec.gpus.resource_name} is asked of the device plugin; "
        "install a DRA driver, or set spec.gpus.allocation to None on nodes without GPUs.",
    )


def _kept(current: T | None, now: Choice[T], field: str) -> Choice[T]:
    """What engines already run with, where today's cluster would suggest something else."""
    if current is None or current == now.value:
        return now
    return Choice(current, f"The engines already run with it; set {field} to change it, which restarts them.")


def _pairing(
    spec: Spec, inventory: Inventory, allocation: Allocation, engines: tuple[Engine, ...], running: Running
) -> Choice[Pairing] | None:
    if allocation is Allocation.NONE or len(engines) == 1:
        return None
    asked = spec.gpus.pairing
    if asked is not Pairing.AUTO:
        return Choice(asked, "spec.gpus.pairing asks for it.")
    if spec.mode is Mode.COLOCATED:
        return None
    if allocation is Allocation.DEVICE_PLUGIN:
        return Choice(
            Pairing.SAME_NODE,
            "A device plugin cannot relate GPUs to one another; DRA could also pair them by PCIe root.",
        )
    unchanged = running.requests == tuple((engine.name, engine.gpus) for engine in engines)
    current = running.pairing if unchanged else None
    return _kept(current, _pairing_by_capacity(inventory, gpus_per_group(engines)), "spec.gpus.pairing")


def _pairing_by_capacity(inventory: Inventory, needed: int) -> Choice[Pairing]:
    roots = Counter((gpu.node, gpu.pcie_root) for gpu in inventory.gpus if gpu.pcie_root)
    if not roots:
        return Choice(
            Pairing.SAME_NODE,
            "No published GPU tells its PCIe root; a driver that publishes resource.kubernetes.io/pcieRoot "
            "allows SamePCIeRoot.",
        )
    (node, root), widest = max(roots.items(), key=lambda item: (item[1], item[0]))
    if widest >= needed:
        return Choice(
            Pairing.SAME_PCIE_ROOT,
            f"A group needs {needed} {_plural(needed, 'GPU')} and PCIe root {root} of node {node} has {widest}; "
            "set spec.gpus.pairing to SameNode to allow any GPUs of one node.",
        )
    return Choice(
        Pairing.SAME_NODE,
        f"A group needs {needed} GPUs and no PCIe root has more than {widest}; fewer engines or less tensor "
        "parallelism per group would allow SamePCIeRoot.",
    )


def _backend(spec: Spec) -> Choice[Backend]:
    if spec.kv_transfer.backend is not Backend.AUTO:
        return Choice(spec.kv_transfer.backend, "spec.kvTransfer.backend asks for it.")
    return Choice(Backend.NIXL, "Decode pulls the KV cache straight from prefill, without a store in between.")


def _transport(spec: Spec, allocation: Allocation) -> Choice[Transport]:
    asked = spec.kv_transfer.nixl.transport
    if asked is not Transport.AUTO:
        return Choice(asked, "spec.kvTransfer.nixl.transport asks for it.")
    if allocation is not Allocation.DRA:
        return Choice(
            Transport.HOST,
            "Without DRA no engine sees the GPU of its peer, so the KV cache is staged in host memory; "
            "DRA together with podLayout SharedPod or security.allowHostPID would move it from GPU to GPU.",
        )
    if spec.pod_layout is PodLayout.SHARED_POD:
        return Choice(
            Transport.CUDA_IPC, "The engines of a group share one pod, its process namespace and its ResourceClaim."
        )
    if spec.security.allow_host_pid:
        return Choice(
            Transport.CUDA_IPC, "security.allowHostPID lets the engines of a group see each other's processes."
        )
    return Choice(
        Transport.HOST,
        "CUDA IPC needs a common process namespace, so the KV cache is staged in host memory; podLayout SharedPod or "
        "security.allowHostPID would move it from GPU to GPU.",
    )


def _refuse(spec: Spec, inventory: Inventory, allocation: Allocation, engines: tuple[Engine, ...]) -> Refusal | None:
    checks = (
        _refuse_cuda_ipc(spec, allocation),
        _refuse_dra(spec, inventory, allocation),
        _refuse_policy(spec, engines),
    )
    return next((refusal for refusal in checks if refusal), None)


def _refuse_cuda_ipc(spec: Spec, allocation: Allocation) -> Refusal | None:
    if spec.mode is not Mode.DISAGGREGATED or spec.kv_transfer.nixl.transport is not Transport.CUDA_IPC:
        return None
    if allocation is not Allocation.DRA:
        return Refusal(
            "TransportNotPossible",
            "spec.kvTransfer.nixl.transport is CudaIPC, which needs GPUs allocated by DRA, and here they come by "
            f"{allocation.value}. Install a DRA driver for the GPUs, or set the transport to Auto or Host.",
        )
    if spec.pod_layout is not PodLayout.SHARED_POD and not spec.security.allow_host_pid:
        return Refusal(
            "TransportNotPossible",
            "spec.kvTransfer.nixl.transport is CudaIPC, which needs a common process namespace. "
            "Set spec.podLayout to SharedPod or spec.security.allowHostPID to true.",
        )
    return None


def _refuse_dra(spec: Spec, inventory: Inventory, allocation: Allocation) -> Refusal | None:
    """Wishes that only DRA can fulfil. DRA asked for by name is taken on trust: its driver may still come."""
    if allocation is Allocation.DRA:
        return None
    wishes = {
        "spec.gpus.pairing SamePCIeRoot": spec.gpus.pairing is Pairing.SAME_PCIE_ROOT,
        "spec.gpus.selectors": bool(spec.gpus.selectors),
    }
    for wish, asked in wishes.items():
        if asked:
            return Refusal(
                "NeedsDRA",
                f"{wish} needs GPUs allocated by DRA, and here they come by {allocation.value}. "
                "Install a DRA driver for the GPUs, or remove the wish.",
            )
    return None


def _refuse_policy(spec: Spec, engines: tuple[Engine, ...]) -> Refusal | None:
    """vllm-router refuses to start with power_of_two and fewer than two static workers of a role."""
    if spec.router.policy is not RouterPolicy.POWER_OF_TWO:
        return None
    workers = Counter(engine.role for engine in engines)
    lonely = [role.value for role, count in workers.items() if count < 2]
    if not lonely:
        return None
    return Refusal(
        "PolicyNotPossible",
        "spec.router.policy PowerOfTwo compares two engines of a role, and a group has only one "
        f"{' and one '.join(lonely)} engine. Ask for at least two engines of each role, or choose RoundRobin.",
    )


def _plural(count: int, noun: str) -> str:
    return noun if count == 1 else f"{noun}s"
