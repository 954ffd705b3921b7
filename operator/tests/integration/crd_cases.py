"""A bad spec and a good twin for every CEL rule of the CRD."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from phasewatt.api.ownership import AGREED_ARGS, ENGINE_ARGS, ENGINE_ENV, ROUTER_ARGS, Owned

JSON = dict[str, Any]

MODEL: JSON = {"model": {"name": "meta-llama/Llama-3.2-3B-Instruct"}}
KEYS = "every key must be an optional DNS prefix and a name, such as example.com/pool"
BYTES = "must be more than zero bytes, such as 2Gi"
ROLES = ("prefill", "decode", "colocated")


@dataclass(frozen=True)
class Case:
    """`bad` is refused at `field` with exactly `message` and nothing else; `good` differs little and is taken."""

    field: str
    message: str
    bad: JSON
    good: JSON

    @property
    def id(self) -> str:
        return f"{self.field}-{self.message.split(' ')[0]}"


def mode_of(role: str) -> JSON:
    return {"mode": "Colocated"} if role == "colocated" else {}


def source(value: JSON) -> JSON:
    return {"model": {"name": "llama", "source": value}}


def under(path: str, value: Any) -> JSON:
    """`under("prefill.args", x)` is `{"prefill": {"args": x}}`, with the mode that has such a role."""
    nested = value
    for part in reversed(path.split(".")):
        nested = {part: nested}
    return {**mode_of(path.split(".")[0]), **nested}


def model_cases() -> Iterator[Case]:
    one = "give exactly one of huggingFace, claim and path"
    yield Case("spec.model.source", one, source({}), source({"huggingFace": {}}))
    yield Case("spec.model.source", one, source({"path": "/m", "claim": {"name": "c"}}), source({"path": "/m"}))
    inside = "must be relative to the root of the claim and stay inside it, such as models/llama"
    for path in ("/models", "models/../../etc"):
        bad, good = ({"claim": {"name": "c", "path": p}} for p in (path, "models/llama..v2"))
        yield Case("spec.model.source.claim.path", inside, source(bad), source(good))


def engine_cases() -> Iterator[Case]:
    yield Case(
        "spec.engine.sharedMemory", BYTES, under("engine.sharedMemory", "0"), under("engine.sharedMemory", "1Ki")
    )
    yield Case("spec.engine.sharedMemory", BYTES, under("engine.sharedMemory", 0), under("engine.sharedMemory", 1024))
    bad, good = ({key: "a100"} for key in ("a b", "example.com/pool"))
    yield Case("spec.engine.nodeSelector", KEYS, under("engine.nodeSelector", bad), under("engine.nodeSelector", good))
    twins = {
        "operator Exists matches every value; remove value, or set operator to Equal": (
            {"key": "gpu", "operator": "Exists", "value": "a100"},
            {"key": "gpu", "operator": "Equal", "value": "a100"},
        ),
        "give a key, or set operator to Exists to tolerate every taint": ({}, {"operator": "Exists"}),
        "tolerationSeconds works with effect NoExecute only": (
            {"key": "gpu", "tolerationSeconds": 5},
            {"key": "gpu", "tolerationSeconds": 5, "effect": "NoExecute"},
        ),
    }
    for message, (bad, good) in twins.items():
        at = "engine.tolerations"
        yield Case(f"spec.{at}[0]", message, under(at, [bad]), under(at, [good]))


def resource_cases() -> Iterator[Case]:
    above = "no request may be above the limit of the same resource"
    for place in (*(f"{role}.resources" for role in ROLES), "router.resources"):
        bad = {"requests": {"cpu": 2, "memory": "2Gi"}, "limits": {"memory": "2G"}}
        good = {"requests": {"cpu": 2, "memory": "2G"}, "limits": {"memory": "2Gi"}}
        yield Case(f"spec.{place}", above, under(place, bad), under(place, good))
        for kind in ("requests", "limits"):
            at = f"{place}.{kind}"
            yield Case(f"spec.{at}", KEYS, under(at, {"my cpu": "1"}), under(at, {"cpu": "1"}))


def role_cases() -> Iterator[Case]:
    gpus = "GPUs are asked for by tensorParallelSize and spec.gpus; remove them from resources"
    for role in ROLES:
        memory = f"{role}.gpuMemory"
        either = "give either utilizationPercent or kvCache, and not both"
        both = {"utilizationPercent": 90, "kvCache": "28Gi"}
        yield Case(f"spec.{memory}", either, under(memory, both), under(memory, {"utilizationPercent": 90}))
        yield Case(f"spec.{memory}", either, under(memory, {}), under(memory, {"kvCache": "28Gi"}))
        at = f"{memory}.kvCache"
        yield Case(f"spec.{at}", BYTES, under(at, "0Gi"), under(at, "0.5Gi"))
        for kind in ("requests", "limits"):
            resources = f"{role}.resources"
            bad, good = ({kind: {name: 1}} for name in ("nvidia.com/gpu", "rdma/hca"))
            yield Case(f"spec.{resources}", gpus, under(resources, bad), under(resources, good))
    other = {"gpus": {"allocation": "DevicePlugin", "resourceName": "nvidia.com/mig-1g.5gb"}}
    bad, good = (under("decode.resources.limits", {name: 1}) for name in ("nvidia.com/mig-1g.5gb", "cpu"))
    yield Case("spec.decode.resources", gpus, {**other, **bad}, {**other, **good})


def env_cases() -> Iterator[Case]:
    either = "give either value (which may be empty) or secretKeyRef, and not both"
    secret = {"name": "keys", "key": "a"}
    for place in ("engine", *ROLES):
        at = f"{place}.env"
        both = [{"name": "A", "value": "", "secretKeyRef": secret}]
        yield Case(f"spec.{at}[0]", either, under(at, both), under(at, [{"name": "A", "value": ""}]))
        yield Case(
            f"spec.{at}[0]", either, under(at, [{"name": "A"}]), under(at, [{"name": "A", "secretKeyRef": secret}])
        )
        for owned in ENGINE_ENV:
            for name in owned.names:
                bad, good = ([{"name": n, "value": "1"}] for n in (name, f"MY_{name}"))
                yield Case(f"spec.{at}", refusal(owned), under(at, bad), under(at, good))
        for name, member, value in (("HF_TOKEN", "tokenSecretRef", {"name": "hf"}), ("HF_HOME", "cacheClaim", "cache")):
            message = f"{name} is set from spec.model.source.huggingFace.{member}; remove one of the two"
            env = under(at, [{"name": name, "value": "x"}])
            bad = {**env, **source({"huggingFace": {member: value}})}
            yield Case(f"spec.{at}", message, bad, {**env, **source({"huggingFace": {}})})


def refusal(owned: Owned) -> str:
    return f"{', '.join(owned.names)}: {owned.instead}"


def spellings(name: str) -> Iterator[list[str]]:
    """Ways in which argparse, as vLLM and vllm-router use it, takes an argument by its full name."""
    yield [name, "1"]
    yield [f"{name}=1"]
    yield [name.replace("-", "_").replace("__", "--", 1), "1"] if name.startswith("--") else [name]
    yield [f"{name}.member=1"]


def argument_cases() -> Iterator[Case]:
    engine = [(f"{place}.args", owned) for place in ("engine", *ROLES) for owned in ENGINE_ARGS]
    agreed = [(f"{role}.args", AGREED_ARGS) for role in ("prefill", "decode")]
    router = [("router.args", owned) for owned in ROUTER_ARGS]
    for at, owned in (*engine, *agreed, *router):
        for name in owned.names:
            # An abbreviation of --prefill is one of --prefill-policy too, and both owners answer.
            short = [] if name in ("--prefill", "--decode") or len(name) < 5 else [["--seed", "7", name[:-1], "1"]]
            for arguments in (*spellings(name), *short):
                good = under("engine.args", arguments) if owned is AGREED_ARGS else under(at, ["--seed", "7"])
                yield Case(f"spec.{at}", refusal(owned), under(at, arguments), good)


def duration_cases() -> Iterator[Case]:
    at, message = "rollout.drainTimeout", "must be at most 24h, such as 90s, 2m or 1h30m"
    for bad, good in (("25h", "24h"), ("24h1s", "23h59m60s"), ("100000s", "0s")):
        yield Case(f"spec.{at}", message, under(at, bad), under(at, good))


def gpu_cases() -> Iterator[Case]:
    def twins(field: str, message: str, wish: JSON, bad: str, good: str) -> Case:
        return Case(
            f"spec.gpus.{field}",
            message,
            {"gpus": {"allocation": bad, **wish}},
            {"gpus": {"allocation": good, **wish}},
        )

    resource = "resourceName is used by allocation DevicePlugin only; remove it, or change allocation"
    device_class = "deviceClassName is used by allocation DRA only; remove it, or change allocation"
    selectors = "selectors need allocation DRA, which knows the attributes of GPUs; remove them, or change allocation"
    root = (
        "pairing SamePCIeRoot needs allocation DRA, which knows where GPUs are attached; use SameNode, or change "
        "allocation"
    )
    nothing = "there is no GPU to pair with allocation None; set pairing to Auto, or change allocation"
    for bad in ("DRA", "None"):
        yield twins("resourceName", resource, {"resourceName": "amd.com/gpu"}, bad, "DevicePlugin")
    for bad in ("DevicePlugin", "None"):
        yield twins("deviceClassName", device_class, {"deviceClassName": "mig.nvidia.com"}, bad, "Auto")
        yield twins("selectors", selectors, {"selectors": ["device.driver == 'gpu.nvidia.com'"]}, bad, "DRA")
    yield twins("pairing", root, {"pairing": "SamePCIeRoot"}, "DevicePlugin", "DRA")
    yield twins("pairing", nothing, {"pairing": "SameNode"}, "None", "DevicePlugin")


def group_cases() -> Iterator[Case]:
    most = (
        "a group may have at most 32 GPUs, the most that one ResourceClaim holds; "
        "lower engines or tensorParallelSize and raise replicas"
    )

    def role(engines: int, size: int = 1) -> JSON:
        return {"engines": engines, "tensorParallelSize": size}

    too_many = {"prefill": role(8, 4), "decode": role(1, 4)}
    yield Case("spec", most, too_many, {"prefill": role(7, 4), "decode": role(1, 4)})
    yield Case("spec", most, too_many, {**too_many, "gpus": {"allocation": "DevicePlugin"}})
    yield Case("spec", most, {"prefill": role(16, 2)}, {"prefill": role(15, 2), "decode": role(2)})
    one_kind = {"mode": "Colocated", "colocated": role(16, 4)}
    yield Case("spec", most, one_kind, {"mode": "Colocated", "colocated": role(16, 2)})
    multiples = (
        "tensorParallelSize of prefill and of decode must be multiples of one another, or decode cannot map "
        "the KV cache"
    )
    for bad, good in (((2, 3), (2, 4)), ((6, 4), (6, 3))):
        (p, d), (q, e) = bad, good
        yield Case(
            "spec",
            multiples,
            {"prefill": role(1, p), "decode": role(1, d)},
            {"prefill": role(1, q), "decode": role(1, e)},
        )
    two = "policy PowerOfTwo compares two engines; set engines to 2 or more for each role, or choose RoundRobin"
    policy = {"router": {"policy": "PowerOfTwo"}}
    pair = {"prefill": role(2), "decode": role(2)}
    yield Case("spec.router.policy", two, {**policy, "prefill": role(2)}, {**policy, **pair})
    yield Case(
        "spec.router.policy",
        two,
        {**policy, "mode": "Colocated"},
        {**policy, "mode": "Colocated", "colocated": role(2)},
    )


def mode_cases() -> Iterator[Case]:
    colocated = {"mode": "Colocated"}
    yield Case(
        "spec.colocated",
        "mode Disaggregated has prefill and decode engines; remove colocated, or set mode to Colocated",
        {"colocated": {}},
        {**colocated, "colocated": {}},
    )
    for role in ("prefill", "decode"):
        message = f"mode Colocated has colocated engines only; remove {role}, or set mode to Disaggregated"
        yield Case(f"spec.{role}", message, {**colocated, role: {}}, {role: {}})
    nothing = "mode Colocated transfers no KV cache; remove kvTransfer, or set mode to Disaggregated"
    for wish in ({"backend": "NIXL"}, {"nixl": {"transport": "Host"}}, {"onLoadFailure": "Recompute"}):
        yield Case("spec.kvTransfer", nothing, {**colocated, "kvTransfer": wish}, {"kvTransfer": wish})
    shared = "podLayout SharedPod joins prefill and decode engines; set it to SeparatePods, or mode to Disaggregated"
    yield Case("spec.podLayout", shared, {**colocated, "podLayout": "SharedPod"}, {"podLayout": "SharedPod"})


def transport_cases() -> Iterator[Case]:
    ipc: JSON = {"kvTransfer": {"nixl": {"transport": "CudaIPC"}}}
    at = "spec.kvTransfer.nixl.transport"
    processes = (
        "transport CudaIPC needs a common process namespace; set podLayout to SharedPod or "
        "security.allowHostPID to true"
    )
    yield Case(at, processes, ipc, {**ipc, "podLayout": "SharedPod"})
    yield Case(at, processes, ipc, {**ipc, "security": {"allowHostPID": True}})
    dra = (
        "transport CudaIPC needs gpus.allocation DRA, so that each engine sees its peer's GPU; set it to DRA or Auto, "
        "or the transport to Host"
    )
    shared = {**ipc, "podLayout": "SharedPod"}
    for bad in ("DevicePlugin", "None"):
        yield Case(at, dra, {**shared, "gpus": {"allocation": bad}}, {**shared, "gpus": {"allocation": "DRA"}})


CASES = [
    *model_cases(),
    *engine_cases(),
    *resource_cases(),
    *role_cases(),
    *env_cases(),
    *argument_cases(),
    *duration_cases(),
    *gpu_cases(),
    *group_cases(),
    *mode_cases(),
    *transport_cases(),
]
