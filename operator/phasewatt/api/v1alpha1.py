"""The `DisaggregatedInference` object, as users write it and as the operator reads it.

The CRD is generated from these models, so a description here is what `kubectl explain` teaches: each says what the field
means, its unit, its default and what leaving it out or setting zero does. A field exists only once its behaviour does.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

GROUP = "phasewatt.io"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "DisaggregatedInference"
PLURAL = "disaggregatedinferences"


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


class Base(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)


Quantity = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?(m|[kMGTPE]i?|Ki)?$", max_length=32)]
Duration = Annotated[str, Field(pattern=r"^([0-9]+h)?([0-9]+m)?([0-9]+s)?$", min_length=2, max_length=16)]
Arg = Annotated[str, Field(min_length=1, max_length=4096)]
Name = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")]


class SecretKeyRef(Base):
    name: Name = Field(description="name of the Secret, in the namespace of this object.")
    key: str = Field("token", max_length=253, description="key inside the Secret. Default `token`.")


class EnvVar(Base):
    name: str = Field(
        max_length=253, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="name of the environment variable."
    )
    value: str = Field(
        "", max_length=4096, description="literal value. Default empty. Use `secretKeyRef` for anything secret."
    )
    secret_key_ref: SecretKeyRef | None = Field(
        None, description="secretKeyRef takes the value from a Secret instead of `value`."
    )


class HuggingFaceSource(Base):
    token_secret_ref: SecretKeyRef | None = Field(
        None,
        description="tokenSecretRef names the Secret that holds the Hugging Face token of a gated model. Default: none, public models only.",
    )
    cache_claim: Name | None = Field(
        None,
        description="cacheClaim is a PersistentVolumeClaim that keeps downloaded weights (HF_HOME) over restarts. Default: none, each start of an engine downloads anew.",
    )


class ClaimSource(Base):
    name: Name = Field(description="name of the PersistentVolumeClaim that holds the model; mounted read-only.")
    path: str = Field(
        "", max_length=1024, description="path of the model's folder inside the claim. Default: its root."
    )


class ModelSource(Base):
    """Exactly one member; none means Hugging Face with no token and no cache."""

    hugging_face: HuggingFaceSource | None = Field(
        None, description="huggingFace downloads `spec.model.name` from the Hugging Face hub."
    )
    claim: ClaimSource | None = Field(None, description="claim reads the model from a PersistentVolumeClaim.")
    path: str | None = Field(
        None,
        max_length=1024,
        pattern=r"^/",
        description="path of a model folder that already is in the engine's image.",
    )


class ModelSpec(Base):
    name: str = Field(
        min_length=1,
        max_length=253,
        description="name of the model: the Hugging Face id, and the name that clients put in the `model` field of a request.",
    )
    source: ModelSource | None = Field(
        None, description="source says where the weights come from. Default: the Hugging Face hub, without a token."
    )


class Toleration(Base):
    key: str | None = Field(None, max_length=316)
    operator: Literal["Exists", "Equal"] = "Equal"
    value: str | None = Field(None, max_length=63)
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    toleration_seconds: int | None = None


class Resources(Base):
    requests: dict[str, Quantity] | None = Field(
        None, description="requests of CPU and memory (and other non-GPU resources) for one engine."
    )
    limits: dict[str, Quantity] | None = Field(
        None, description="limits of CPU and memory (and other non-GPU resources) for one engine."
    )


class EngineSpec(Base):
    image: str | None = Field(
        None,
        max_length=512,
        description="image of the engines, the same for both roles. Default: the operator's (chart value `engine.image`).",
    )
    image_pull_secrets: list[Name] = Field(default_factory=list, max_length=8)
    max_model_len: int | None = Field(
        None, ge=1, description="maxModelLen is the longest prompt plus output, in tokens. Default: the model's own."
    )
    shared_memory: Quantity = Field(
        "2Gi", description="sharedMemory is the size of /dev/shm of an engine. Default 2Gi."
    )
    args: list[Arg] = Field(
        default_factory=list,
        max_length=64,
        description="args are more `vllm serve` arguments for all engines. Arguments that the operator owns are refused.",
    )
    env: list[EnvVar] = Field(default_factory=list, max_length=64)
    node_selector: dict[str, str] = Field(default_factory=dict)
    tolerations: list[Toleration] = Field(default_factory=list, max_length=16)
    service_account_name: Name | None = None


class GPUMemory(Base):
    utilization_percent: int | None = Field(
        None, ge=1, le=100, description="utilizationPercent of the GPU's memory that the engine may use."
    )
    kv_cache: Quantity | None = Field(
        None, description="kvCache is the exact size of the KV cache of one GPU, in bytes."
    )


class RoleSpec(Base):
    engines: int = Field(1, ge=1, le=16)
    tensor_parallel_size: int = Field(1, ge=1, le=16)
    max_num_seqs: int | None = Field(None, ge=1)
    max_batched_tokens: int | None = Field(None, ge=1)
    gpu_memory: GPUMemory | None = None
    resources: Resources | None = None
    args: list[Arg] = Field(default_factory=list, max_length=64)
    env: list[EnvVar] = Field(default_factory=list, max_length=64)


class GPUSpec(Base):
    allocation: Allocation = Allocation.AUTO
    device_class_name: Name = "gpu.nvidia.com"
    resource_name: str = "nvidia.com/gpu"
    pairing: Pairing = Pairing.AUTO
    selectors: list[str] = Field(default_factory=list, max_length=8)


class NIXLSpec(Base):
    transport: Transport = Transport.AUTO


class KVTransferSpec(Base):
    backend: Backend = Backend.AUTO
    nixl: NIXLSpec = NIXLSpec()
    on_load_failure: OnLoadFailure = OnLoadFailure.FAIL


class SecuritySpec(Base):
    allow_host_pid: Annotated[bool, Field(alias="allowHostPID")] = False


class RouterSpec(Base):
    image: str | None = Field(None, max_length=512)
    replicas: int = Field(1, ge=1, le=8)
    policy: RouterPolicy = RouterPolicy.ROUND_ROBIN
    args: list[Arg] = Field(default_factory=list, max_length=64)
    resources: Resources | None = None


class RolloutSpec(Base):
    max_unavailable: int = Field(1, ge=1)
    drain_timeout: Duration = "2m"


class Spec(Base):
    model: ModelSpec
    engine: EngineSpec = EngineSpec()
    mode: Mode = Mode.DISAGGREGATED
    replicas: int = Field(1, ge=0, le=64)
    prefill: RoleSpec | None = None
    decode: RoleSpec | None = None
    colocated: RoleSpec | None = None
    gpus: GPUSpec = GPUSpec()
    kv_transfer: KVTransferSpec = KVTransferSpec()
    pod_layout: PodLayout = PodLayout.SEPARATE_PODS
    security: SecuritySpec = SecuritySpec()
    router: RouterSpec = RouterSpec()
    rollout: RolloutSpec = RolloutSpec()
    suspend: bool = False

    def roles(self) -> dict[Role, RoleSpec]:
        """The engines' roles of this mode, in start order, each with its defaults filled in."""
        if self.mode is Mode.COLOCATED:
            return {Role.COLOCATED: self.colocated or RoleSpec()}
        return {Role.PREFILL: self.prefill or RoleSpec(), Role.DECODE: self.decode or RoleSpec()}


class Condition(Base):
    type: str
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str
    observed_generation: int | None = None
    last_transition_time: str | None = None


class EngineStatus(Base):
    name: str
    role: Role
    pod: str | None = None
    gpus: list[str] = Field(default_factory=list)
    ready: bool = False


class GroupStatus(Base):
    index: int
    ready: bool = False
    phase: str | None = None
    node: str | None = None
    pairing_satisfied: bool | None = None
    engines: list[EngineStatus] = Field(default_factory=list)


class RoleStatus(Base):
    ready: int = 0
    updated: int = 0
    total: int = 0


class KVTransferStatus(Base):
    backend: str | None = None
    transport: str | None = None
    reason: str | None = None
    transferred_tokens: int | None = None
    recomputed_tokens: int | None = None


class Status(Base):
    observed_generation: int | None = None
    endpoint: str | None = None
    ready: str | None = Field(None, description="ready groups of all groups, such as `2/2`.")
    replicas: int = 0
    ready_replicas: int = 0
    selector: str | None = Field(None, description="selector of the engines' pods, for the scale subresource.")
    prefill: RoleStatus | None = None
    decode: RoleStatus | None = None
    colocated: RoleStatus | None = None
    router: RoleStatus | None = None
    kv_transfer: KVTransferStatus | None = None
    groups: list[GroupStatus] = Field(default_factory=list)
    conditions: list[Condition] = Field(default_factory=list)


class DisaggregatedInference(Base):
    model_config = ConfigDict(extra="ignore")

    api_version: str = API_VERSION
    kind: str = KIND
    metadata: dict[str, Any]
    spec: Spec
    status: Status | None = None
