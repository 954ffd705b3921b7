"""CEL rules that relate several fields of a spec. Each refuses only what cannot work, or would be silently ignored."""

from __future__ import annotations

from phasewatt.api.base import Rule

CLAIM_DEVICES = 32
"""Devices that one ResourceClaim can hold (k8s.io/api/resource/v1 AllocationResultsMaxSize)."""

_DISAGGREGATED = "self.mode == 'Disaggregated'"
_CUDA_IPC = "self.kvTransfer.nixl.transport == 'CudaIPC'"


def _gpus(role: str) -> str:
    return f"(has(self.{role}) ? self.{role}.engines * self.{role}.tensorParallelSize : 1)"


def _of(role: str, field: str) -> str:
    return f"(has(self.{role}) ? self.{role}.{field} : 1)"


def _without_gpu_resource(role: str) -> Rule:
    listed = " && ".join(
        f"(!has(self.{role}.resources.{kind}) || !(self.gpus.resourceName in self.{role}.resources.{kind}))"
        for kind in ("requests", "limits")
    )
    return Rule(
        f"!has(self.{role}) || !has(self.{role}.resources) || ({listed})",
        "GPUs are asked for by tensorParallelSize and spec.gpus; remove them from resources",
        reason="FieldValueForbidden",
        field_path=f".{role}.resources",
    )


_MODE = (
    Rule(
        f"!({_DISAGGREGATED}) || !has(self.colocated)",
        "mode Disaggregated has prefill and decode engines; remove colocated, or set mode to Colocated",
        reason="FieldValueForbidden",
        field_path=".colocated",
    ),
    *(
        Rule(
            f"{_DISAGGREGATED} || !has(self.{role})",
            f"mode Colocated has colocated engines only; remove {role}, or set mode to Disaggregated",
            reason="FieldValueForbidden",
            field_path=f".{role}",
        )
        for role in ("prefill", "decode")
    ),
    Rule(
        f"{_DISAGGREGATED} || (self.kvTransfer.backend == 'Auto' && self.kvTransfer.nixl.transport == 'Auto' "
        "&& self.kvTransfer.onLoadFailure == 'Fail')",
        "mode Colocated transfers no KV cache; remove kvTransfer, or set mode to Disaggregated",
        reason="FieldValueForbidden",
        field_path=".kvTransfer",
    ),
    Rule(
        f"{_DISAGGREGATED} || self.podLayout == 'SeparatePods'",
        "podLayout SharedPod joins prefill and decode engines; set it to SeparatePods, or mode to Disaggregated",
        field_path=".podLayout",
    ),
)

_TRANSPORT = (
    Rule(
        f"!({_CUDA_IPC}) || self.podLayout == 'SharedPod' || self.security.allowHostPID",
        "transport CudaIPC needs a common process namespace; set podLayout to SharedPod or security.allowHostPID to "
        "true",
        field_path=".kvTransfer.nixl.transport",
    ),
    Rule(
        f"!({_CUDA_IPC}) || self.gpus.allocation in ['Auto', 'DRA']",
        "transport CudaIPC needs gpus.allocation DRA, so that each engine sees its peer's GPU; set it to DRA or Auto, "
        "or the transport to Host",
        field_path=".kvTransfer.nixl.transport",
    ),
)

_GPUS = (
    Rule(
        f"self.gpus.allocation in ['DevicePlugin', 'None'] || ({_DISAGGREGATED} "
        f"? {_gpus('prefill')} + {_gpus('decode')} : {_gpus('colocated')}) <= {CLAIM_DEVICES}",
        f"a group may have at most {CLAIM_DEVICES} GPUs, the most that one ResourceClaim holds; "
        "lower engines or tensorParallelSize and raise replicas",
    ),
    Rule(
        f"!({_DISAGGREGATED}) || {_of('prefill', 'tensorParallelSize')} % {_of('decode', 'tensorParallelSize')} == 0 "
        f"|| {_of('decode', 'tensorParallelSize')} % {_of('prefill', 'tensorParallelSize')} == 0",
        "tensorParallelSize of prefill and of decode must be multiples of one another, or decode cannot map the KV "
        "cache",
    ),
    *(_without_gpu_resource(role) for role in ("prefill", "decode", "colocated")),
)

_ROUTER = (
    Rule(
        f"self.router.policy != 'PowerOfTwo' || ({_DISAGGREGATED} ? {_of('prefill', 'engines')} > 1 "
        f"&& {_of('decode', 'engines')} > 1 : {_of('colocated', 'engines')} > 1)",
        "policy PowerOfTwo compares two engines; set engines to 2 or more for each role, or choose RoundRobin",
        field_path=".router.policy",
    ),
)


def _env_owned_with(variable: str, member: str) -> tuple[Rule, ...]:
    source = (
        f"has(self.model.source) && has(self.model.source.huggingFace) && has(self.model.source.huggingFace.{member})"
    )
    places = ("engine", "prefill", "decode", "colocated")
    return tuple(
        Rule(
            f"!({source}) || !has(self.{place}) || !has(self.{place}.env) "
            f"|| !self.{place}.env.exists(e, e.name == '{variable}')",
            f"{variable} is set from spec.model.source.huggingFace.{member}; remove one of the two",
            reason="FieldValueForbidden",
            field_path=f".{place}.env",
        )
        for place in places
    )


SPEC_RULES = (
    *_MODE,
    *_TRANSPORT,
    *_GPUS,
    *_ROUTER,
    *_env_owned_with("HF_TOKEN", "tokenSecretRef"),
    *_env_owned_with("HF_HOME", "cacheClaim"),
)
