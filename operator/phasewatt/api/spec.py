"""What a user asks for."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from phasewatt.api.base import Arg, Base, Duration, Image, Name, Rule, Rules
from phasewatt.api.engine import EngineSpec, ModelSpec, Resources, RoleSpec
from phasewatt.api.enums import (
    Allocation,
    Backend,
    Mode,
    OnLoadFailure,
    Pairing,
    PodLayout,
    Role,
    RouterPolicy,
    Transport,
)
from phasewatt.api.ownership import AGREED_ARGS, ROUTER_ARGS, refused_args
from phasewatt.api.spec_rules import SPEC_RULES

DEVICE_CLASS = "gpu.nvidia.com"
RESOURCE_NAME = "nvidia.com/gpu"


class GPUSpec(Base):
    rules = (
        Rule(
            f"self.resourceName == '{RESOURCE_NAME}' || self.allocation in ['Auto', 'DevicePlugin']",
            "resourceName is used by allocation DevicePlugin only; remove it, or change allocation",
            field_path=".resourceName",
        ),
        Rule(
            f"self.deviceClassName == '{DEVICE_CLASS}' || self.allocation in ['Auto', 'DRA']",
            "deviceClassName is used by allocation DRA only; remove it, or change allocation",
            field_path=".deviceClassName",
        ),
        Rule(
            "!has(self.selectors) || size(self.selectors) == 0 || self.allocation in ['Auto', 'DRA']",
            "selectors need allocation DRA, which knows the attributes of GPUs; remove them, or change allocation",
            field_path=".selectors",
        ),
        Rule(
            "self.pairing != 'SamePCIeRoot' || self.allocation in ['Auto', 'DRA']",
            "pairing SamePCIeRoot needs allocation DRA, which knows where GPUs are attached; use SameNode, or change "
            "allocation",
            field_path=".pairing",
        ),
        Rule(
            "self.pairing == 'Auto' || self.allocation != 'None'",
            "there is no GPU to pair with allocation None; set pairing to Auto, or change allocation",
            field_path=".pairing",
        ),
    )

    allocation: Allocation = Field(
        Allocation.AUTO,
        description="allocation says who hands out the GPUs. DRA: a ResourceClaim per group, which pins each engine "
        "to exact GPUs. DevicePlugin: the extended resource resourceName. None: no GPU is asked for, the engines run "
        "on CPU nodes. Auto: DRA where the cluster publishes GPUs by DRA, else DevicePlugin. Default: Auto.",
    )
    device_class_name: Name = Field(
        DEVICE_CLASS,
        description=f"deviceClassName is the DeviceClass of the GPUs, for DRA. Default: {DEVICE_CLASS}.",
    )
    resource_name: str = Field(
        RESOURCE_NAME,
        max_length=253,
        pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$",
        description=f"resourceName is the extended resource of the GPUs, for DevicePlugin. Default: {RESOURCE_NAME}.",
    )
    pairing: Pairing = Field(
        Pairing.AUTO,
        description="pairing says how close the GPUs of a group must be. SamePCIeRoot: under one PCIe root complex "
        "(DRA only). SameNode: on one node. Auto: SamePCIeRoot where some root has enough GPUs for a whole group, "
        "else SameNode. Default: Auto.",
    )
    selectors: list[Annotated[str, Field(min_length=1, max_length=1024)]] = Field(
        default_factory=list,
        max_length=8,
        description="selectors are CEL expressions on a device that every GPU must meet (DRA only), such as "
        "device.attributes['gpu.nvidia.com'].productName == 'NVIDIA A100-PCIE-40GB'. Absent: any GPU of the class.",
    )


class NIXLSpec(Base):
    transport: Transport = Field(
        Transport.AUTO,
        description="transport carries the KV cache. CudaIPC: from GPU to GPU, which needs DRA, and podLayout "
        "SharedPod or security.allowHostPID. Host: staged in host memory, which works everywhere and is slower. Auto: "
        "CudaIPC where it is allowed, else Host. Default: Auto.",
    )


class KVTransferSpec(Base):
    backend: Backend = Field(
        Backend.AUTO,
        description="backend is how the KV cache gets from prefill to decode. NIXL: decode pulls it from the prefill "
        "engine. Auto: NIXL. Default: Auto.",
    )
    nixl: NIXLSpec = Field(NIXLSpec(), description="nixl holds what only the NIXL backend needs.")
    on_load_failure: OnLoadFailure = Field(
        OnLoadFailure.FAIL,
        description="onLoadFailure is what decode does with a request whose KV cache did not come. Fail: answers an "
        "error. Recompute: computes the prompt again itself, which costs latency and energy. Default: Fail.",
    )


class SecuritySpec(Base):
    allow_host_pid: bool = Field(
        False,
        alias="allowHostPID",
        description="allowHostPID permits the engines' pods to run in the node's process namespace, which CudaIPC "
        "between separate pods needs; the namespace must then admit privileged pods. Default: false.",
    )


class RouterSpec(Base):
    image: Image | None = Field(
        None,
        description="image of the router, whose entrypoint starts vllm-router. Absent: the operator's default (chart "
        "value router.image).",
    )
    replicas: int = Field(1, ge=1, le=8, description="replicas is the number of router pods of each group. Default: 1.")
    policy: RouterPolicy = Field(
        RouterPolicy.ROUND_ROBIN,
        description="policy chooses the engine for a request, among the engines of a role in the group. RoundRobin: "
        "in turn. Random. CacheAware: where the prompt's prefix was seen. ConsistentHash: by session. PowerOfTwo: the "
        "less loaded of two random ones, which needs two engines of each role. Default: RoundRobin.",
    )
    args: Annotated[list[Arg], Rules(refused_args(ROUTER_ARGS))] = Field(
        default_factory=list,
        max_length=64,
        description="args are more arguments of `vllm-router`. Arguments that the operator sets itself are refused "
        "with the field to use instead. Absent: none.",
    )
    resources: Resources | None = Field(
        None, description="resources are CPU and memory of a router's container. Absent: none asked, none limited."
    )


class RolloutSpec(Base):
    max_unavailable: int = Field(
        1,
        ge=1,
        le=64,
        description="maxUnavailable is how many groups a rollout may take out of service at once; groups that do not "
        "serve anyway are not counted. Default: 1.",
    )
    drain_timeout: Duration = Field(
        "2m",
        description="drainTimeout is how long requests in flight may go on when an engine or a router is replaced, "
        "such as 90s or 2m; what is left then is aborted. 0s: aborted at once. Default: 2m.",
    )


(_AGREED,) = refused_args((AGREED_ARGS,))

PairedRole = Annotated[
    RoleSpec,
    Rule(
        f"!has(self.args) || self.args{_AGREED.rule.removeprefix('self')}",
        _AGREED.message,
        reason=_AGREED.reason,
        field_path=".args",
    ),
]
"""A role that must fit another one: what both have to agree on belongs to spec.engine."""


class Spec(Base):
    rules = SPEC_RULES

    model: ModelSpec = Field(description="model is the model that all engines of this object serve.")
    engine: EngineSpec = Field(EngineSpec(), description="engine holds what is common to the engines of all roles.")
    mode: Annotated[
        Mode,
        Rule("self == oldSelf", "the mode cannot change; create another object and delete this one"),
    ] = Field(
        Mode.DISAGGREGATED,
        description="mode of serving. Disaggregated: prefill engines compute the KV cache of the prompt and hand it "
        "to decode engines. Colocated: every engine does both. It cannot change later. Default: Disaggregated.",
    )
    replicas: int = Field(
        1,
        ge=0,
        le=64,
        description="replicas is the number of groups; a group is one set of engines with its own GPUs, KV path and "
        "router. `kubectl scale` and autoscalers set it. 0: no engine runs, the Service stays. Default: 1.",
    )
    prefill: PairedRole | None = Field(
        None,
        description="prefill describes the prefill engines of a group (mode Disaggregated). Absent: one engine, one "
        "GPU.",
    )
    decode: PairedRole | None = Field(
        None,
        description="decode describes the decode engines of a group (mode Disaggregated). Absent: one engine, one GPU.",
    )
    colocated: RoleSpec | None = Field(
        None, description="colocated describes the engines of a group (mode Colocated). Absent: one engine, one GPU."
    )
    gpus: GPUSpec = Field(GPUSpec(), description="gpus says how the engines get their GPUs.")
    kv_transfer: KVTransferSpec = Field(
        KVTransferSpec(),
        description="kvTransfer says how the KV cache gets from prefill to decode (mode Disaggregated). "
        "Status shows what was chosen and whether it is proven to work.",
    )
    pod_layout: PodLayout = Field(
        PodLayout.SEPARATE_PODS,
        description="podLayout of a group. SeparatePods: a pod for each engine, so that they restart on their own. "
        "SharedPod: one pod with a container for each engine, which allows CudaIPC without privileges (mode "
        "Disaggregated). Default: SeparatePods.",
    )
    security: SecuritySpec = Field(
        SecuritySpec(), description="security holds the privileges that the user grants to engines; none by default."
    )
    router: RouterSpec = Field(RouterSpec(), description="router is what spreads requests over the engines of a group.")
    rollout: RolloutSpec = Field(RolloutSpec(), description="rollout says how changes reach running groups.")
    suspend: bool = Field(
        False,
        description="suspend removes all engines and routers and frees their GPUs, while replicas and the Service "
        "stay. Default: false.",
    )

    def roles(self) -> dict[Role, RoleSpec]:
        """The engines' roles of this mode, in start order, each with its defaults filled in."""
        if self.mode is Mode.COLOCATED:
            return {Role.COLOCATED: self.colocated or RoleSpec()}
        return {Role.PREFILL: self.prefill or RoleSpec(), Role.DECODE: self.decode or RoleSpec()}
