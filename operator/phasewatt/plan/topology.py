"""Which engines one group consists of. Every group of an object is the same."""

from __future__ import annotations

from dataclasses import dataclass

from phasewatt.api.v1alpha1 import PodLayout, Role, RoleSpec, Spec
from phasewatt.plan import names


@dataclass(frozen=True, slots=True)
class Engine:
    """One vLLM server of a group."""

    role: Role
    index: int
    spec: RoleSpec
    slot: int
    """Position inside its pod, added to the port numbers: always 0 where an engine has a pod of its own."""

    @property
    def name(self) -> str:
        return names.engine(self.role, self.index)

    @property
    def gpus(self) -> int:
        return self.spec.tensor_parallel_size

    @property
    def http_port(self) -> int:
        return names.HTTP_PORT + self.slot

    @property
    def side_channel_port(self) -> int:
        return names.SIDE_CHANNEL_PORT + self.slot


def engines_of(spec: Spec) -> tuple[Engine, ...]:
    """The engines of one group, prefill before decode."""
    shared = spec.pod_layout is PodLayout.SHARED_POD
    flat = [(role, index, role_spec) for role, role_spec in spec.roles().items() for index in range(role_spec.engines)]
    return tuple(
        Engine(role=role, index=index, spec=role_spec, slot=position if shared else 0)
        for position, (role, index, role_spec) in enumerate(flat)
    )


def gpus_per_group(engines: tuple[Engine, ...]) -> int:
    return sum(engine.gpus for engine in engines)


def group_count(spec: Spec) -> int:
    """How many groups are wanted now: none while suspended."""
    return 0 if spec.suspend else spec.replicas


def deployment_of(name: str, group: int, spec: Spec, engine: Engine) -> str:
    """Name of the Deployment that runs an engine; engines of a shared pod have it in common."""
    if spec.pod_layout is PodLayout.SHARED_POD:
        return names.group(name, group)
    return names.engine_deployment(name, group, engine.name)
