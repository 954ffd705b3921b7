"""What the engines of an object run: the model, and what is common to all of them or particular to one role."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from phasewatt.api.base import (
    LIST_SET,
    Arg,
    Base,
    Bytes,
    Image,
    LabelKey,
    LabelValue,
    Name,
    Quantity,
    Rule,
    Rules,
    list_map,
)
from phasewatt.api.ownership import ENGINE_ARGS, ENGINE_ENV, refused_args, refused_env


class SecretKeyRef(Base):
    name: Name = Field(description="name of the Secret, in the namespace of this object.")
    key: str = Field(
        "token",
        min_length=1,
        max_length=253,
        pattern=r"^[-._a-zA-Z0-9]+$",
        description="key inside the Secret. Default: token.",
    )


class EnvVar(Base):
    rules = (
        Rule(
            "has(self.value) != has(self.secretKeyRef)",
            "give either value (which may be empty) or secretKeyRef, and not both",
        ),
    )

    name: str = Field(
        max_length=253, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="name of the environment variable."
    )
    value: str | None = Field(
        None,
        max_length=4096,
        description="value as it is written here, where anyone who may read the object sees it; may be empty. "
        "Use secretKeyRef for anything secret.",
    )
    secret_key_ref: SecretKeyRef | None = Field(None, description="secretKeyRef takes the value from a Secret.")


class HuggingFaceSource(Base):
    token_secret_ref: SecretKeyRef | None = Field(
        None,
        description="tokenSecretRef names the Secret that holds the Hugging Face token of a gated model. "
        "Absent: no token, public models only.",
    )
    cache_claim: Name | None = Field(
        None,
        description="cacheClaim names a PersistentVolumeClaim that keeps downloaded weights (HF_HOME) over restarts. "
        "Absent: each start of an engine downloads them anew.",
    )


class ClaimSource(Base):
    name: Name = Field(description="name of the PersistentVolumeClaim that holds the model; it is mounted read-only.")
    path: Annotated[
        str,
        Rule(
            "!self.startsWith('/') && !self.split('/').exists(part, part == '..')",
            "must be relative to the root of the claim and stay inside it, such as models/llama",
        ),
    ] = Field("", max_length=1024, description="path of the model's folder inside the claim. Default: empty, its root.")


class ModelSource(Base):
    rules = (
        Rule(
            "[has(self.huggingFace), has(self.claim), has(self.path)].exists_one(given, given)",
            "give exactly one of huggingFace, claim and path",
        ),
    )

    hugging_face: HuggingFaceSource | None = Field(
        None,
        description="huggingFace downloads spec.model.name from the Hugging Face hub; {} is a public model without a "
        "cache.",
    )
    claim: ClaimSource | None = Field(None, description="claim reads the model from a PersistentVolumeClaim.")
    path: str | None = Field(
        None,
        max_length=1024,
        pattern=r"^/.",
        description="path is the absolute path of a model's folder inside the engine's container, for an image that "
        "carries its model.",
    )


class ModelSpec(Base):
    name: str = Field(
        min_length=1,
        max_length=253,
        pattern=r"^[A-Za-z0-9][-A-Za-z0-9._:/+]*$",
        description="name of the model: its Hugging Face id, and what clients write in the `model` field of a request.",
    )
    source: ModelSource | None = Field(
        None,
        description="source says where the weights come from. Absent: the Hugging Face hub, without a token or cache.",
    )


class Toleration(Base):
    rules = (
        Rule(
            "self.operator != 'Exists' || !has(self.value) || self.value == ''",
            "operator Exists matches every value; remove value, or set operator to Equal",
        ),
        Rule(
            "self.operator == 'Exists' || (has(self.key) && self.key != '')",
            "give a key, or set operator to Exists to tolerate every taint",
        ),
        Rule(
            "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
            "tolerationSeconds works with effect NoExecute only",
        ),
    )

    key: LabelKey | None = Field(None, description="key of the taint. Absent: every taint, with operator Exists.")
    operator: Literal["Exists", "Equal"] = Field(
        "Equal", description="operator compares the taint's value (Equal) or ignores it (Exists). Default: Equal."
    )
    value: LabelValue | None = Field(None, description="value of the taint, for operator Equal. Absent: empty.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        None, description="effect of the taint. Absent: every effect."
    )
    toleration_seconds: int | None = Field(
        None,
        ge=0,
        description="tolerationSeconds is how long, in seconds, a NoExecute taint is tolerated; 0 evicts at once. "
        "Absent: for ever.",
    )


class Resources(Base):
    rules = (
        Rule(
            "!has(self.requests) || !has(self.limits) || self.requests.all(r, !(r in self.limits) || "
            "quantity(string(self.requests[r])).compareTo(quantity(string(self.limits[r]))) <= 0)",
            "no request may be above the limit of the same resource",
        ),
    )

    requests: dict[LabelKey, Quantity] | None = Field(
        None,
        max_length=16,
        description="requests per container by resource, such as {cpu: 4, memory: 16Gi}; the scheduler sets them "
        "aside. GPUs do not belong here: see tensorParallelSize and spec.gpus. Absent: the limits, or nothing.",
    )
    limits: dict[LabelKey, Quantity] | None = Field(
        None,
        max_length=16,
        description="limits per container by resource, such as {memory: 32Gi}; above it memory is refused with "
        "OOMKilled, CPU is throttled. Absent: no limit.",
    )


EngineArgs = Annotated[list[Arg], Rules(refused_args(ENGINE_ARGS))]
EngineEnv = Annotated[list[EnvVar], Rules(tuple(refused_env(owned) for owned in ENGINE_ENV))]


class EngineSpec(Base):
    image: Image | None = Field(
        None,
        description="image of the engines, the same for all roles because prefill and decode must run one version of "
        "vLLM. Absent: the operator's default (chart value engine.image).",
    )
    image_pull_secrets: list[Name] = Field(
        default_factory=list,
        max_length=8,
        json_schema_extra=LIST_SET,
        description="imagePullSecrets are names of Secrets with registry credentials, for engines and routers. "
        "Absent: none.",
    )
    max_model_len: int | None = Field(
        None,
        ge=1,
        le=16_777_216,
        description="maxModelLen is the longest prompt plus output, in tokens. Absent: what the model's own "
        "configuration says.",
    )
    shared_memory: Bytes = Field(
        "2Gi",
        description="sharedMemory is the size of /dev/shm of an engine, in bytes; it counts as memory of the pod. "
        "Default: 2Gi.",
    )
    args: EngineArgs = Field(
        default_factory=list,
        max_length=64,
        description="args are more arguments of `vllm serve`, for all engines; those of a role come after them. "
        "Arguments that the operator sets itself are refused with the field to use instead. Absent: none.",
    )
    env: EngineEnv = Field(
        default_factory=list,
        max_length=64,
        json_schema_extra=list_map("name"),
        description="env are environment variables of all engines; a role's variable of the same name wins. Variables "
        "that the operator sets itself are refused. Absent: none.",
    )
    node_selector: dict[LabelKey, LabelValue] = Field(
        default_factory=dict,
        max_length=16,
        description="nodeSelector are the labels that a node must have to run engines. Absent: any node.",
    )
    tolerations: list[Toleration] = Field(
        default_factory=list,
        max_length=16,
        description="tolerations of the engines' pods for taints of nodes. Absent: none.",
    )
    service_account_name: Name | None = Field(
        None,
        description="serviceAccountName is the ServiceAccount of the engines' pods; no token of it is mounted. "
        "Absent: the namespace's default.",
    )


class GPUMemory(Base):
    rules = (
        Rule(
            "has(self.utilizationPercent) != has(self.kvCache)",
            "give either utilizationPercent or kvCache, and not both",
        ),
    )

    utilization_percent: int | None = Field(
        None,
        ge=1,
        le=100,
        description="utilizationPercent is the part of each GPU's memory that the engine may use for weights, "
        "activations and KV cache, in percent.",
    )
    kv_cache: Bytes | None = Field(
        None, description="kvCache is the exact size of the KV cache on each GPU, in bytes, such as 28Gi."
    )


class RoleSpec(Base):
    engines: int = Field(
        1,
        ge=1,
        le=16,
        description="engines is the number of engines of this role in each group; each is one vLLM server. Default: 1.",
    )
    tensor_parallel_size: int = Field(
        1,
        ge=1,
        le=16,
        description="tensorParallelSize is the number of GPUs of one engine, all on one node. Default: 1.",
    )
    max_num_seqs: int | None = Field(
        None,
        ge=1,
        le=65_536,
        description="maxNumSeqs is the largest number of requests in one batch of an engine. Absent: vLLM's default.",
    )
    max_batched_tokens: int | None = Field(
        None,
        ge=1,
        le=16_777_216,
        description="maxBatchedTokens is the largest number of tokens in one step of an engine; it bounds how much "
        "prompt one prefill step takes. Absent: vLLM's default.",
    )
    gpu_memory: GPUMemory | None = Field(
        None, description="gpuMemory says how much of a GPU's memory the engine uses. Absent: vLLM's default share."
    )
    resources: Resources | None = Field(
        None, description="resources are CPU and memory of one engine's container. Absent: none asked, none limited."
    )
    args: EngineArgs = Field(
        default_factory=list,
        max_length=64,
        description="args are more arguments of `vllm serve` for this role, after those of spec.engine.args. Absent: "
        "none.",
    )
    env: EngineEnv = Field(
        default_factory=list,
        max_length=64,
        json_schema_extra=list_map("name"),
        description="env are environment variables of this role; they win over spec.engine.env. Absent: none.",
    )
