"""Random specs that the API accepts, as JSON: what a user may leave out is left out now and then."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

names = st.from_regex(r"[a-z]([-a-z0-9]{0,20}[a-z0-9])?", fullmatch=True)
byte_amounts = st.one_of(st.integers(1, 2**40), st.sampled_from(["1Ki", "0.5Gi", "28Gi", "3G", "2E"]))
durations = st.sampled_from(["0s", "90s", "2m", "1h30m", "24h"])
arguments = st.lists(st.sampled_from(["--enforce-eager", "--seed=7", "--max-loras", "4"]), max_size=4)
secrets = st.fixed_dictionaries({"name": names}, optional={"key": names})


def objects(required: dict[str, Any] | None = None, **optional: Any) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(required or {}, optional=optional)


variables = st.lists(
    st.one_of(
        objects({"name": st.sampled_from(["A", "B_1"]), "value": st.text("ab =/", max_size=8)}),
        objects({"name": st.sampled_from(["C", "_D"]), "secretKeyRef": secrets}),
    ),
    max_size=3,
    unique_by=lambda variable: variable["name"],
)
amounts = st.dictionaries(st.sampled_from(["cpu", "memory", "rdma/hca"]), st.sampled_from([1, "500m", "2", "1Gi"]))
resources = st.one_of(objects(requests=amounts), objects(limits=amounts))
tolerations = st.lists(
    st.one_of(
        objects({"key": names}, value=names, effect=st.sampled_from(["NoSchedule", "NoExecute"])),
        objects(
            {"operator": st.just("Exists"), "effect": st.just("NoExecute")}, tolerationSeconds=st.integers(0, 10**6)
        ),
    ),
    max_size=2,
)
sources = st.one_of(
    st.just({"path": "/models/tiny"}),
    objects({"claim": objects({"name": names}, path=names)}),
    objects({"huggingFace": objects(tokenSecretRef=secrets, cacheClaim=names)}),
)
engine = objects(
    image=st.just("registry.example.com/vllm:1"),
    imagePullSecrets=st.lists(names, max_size=2, unique=True),
    maxModelLen=st.integers(1, 10**6),
    sharedMemory=byte_amounts,
    args=arguments,
    env=variables,
    nodeSelector=st.dictionaries(st.sampled_from(["pool", "example.com/gpu"]), names, max_size=2),
    tolerations=tolerations,
    serviceAccountName=names,
)
role = objects(
    engines=st.integers(1, 2),
    tensorParallelSize=st.sampled_from([1, 2, 4, 8]),
    maxNumSeqs=st.integers(1, 1024),
    maxBatchedTokens=st.integers(1, 65536),
    gpuMemory=st.one_of(objects({"kvCache": byte_amounts}), objects({"utilizationPercent": st.integers(1, 100)})),
    resources=resources,
    args=arguments,
    env=variables,
)
router = objects(
    image=st.just("registry.example.com/router:1"),
    replicas=st.integers(1, 8),
    policy=st.sampled_from(["RoundRobin", "Random", "CacheAware", "ConsistentHash"]),
    args=arguments,
    resources=resources,
)
common: dict[str, Any] = {
    "engine": engine,
    "replicas": st.integers(0, 64),
    "gpus": st.one_of(
        objects(pairing=st.sampled_from(["Auto", "SamePCIeRoot", "SameNode"]), selectors=st.lists(names, max_size=2)),
        objects({"allocation": st.just("DevicePlugin")}, resourceName=st.just("amd.com/gpu")),
        objects({"allocation": st.just("DRA")}, deviceClassName=names),
        st.just({"allocation": "None"}),
    ),
    "router": router,
    "rollout": objects(maxUnavailable=st.integers(1, 64), drainTimeout=durations),
    "security": objects(allowHostPID=st.booleans()),
    "suspend": st.booleans(),
}
model = objects({"name": st.sampled_from(["tiny", "meta-llama/Llama-3.2-3B-Instruct"])}, source=sources)
transfer = objects(
    backend=st.sampled_from(["Auto", "NIXL"]),
    nixl=objects(transport=st.sampled_from(["Auto", "Host"])),
    onLoadFailure=st.sampled_from(["Fail", "Recompute"]),
)
disaggregated = objects(
    {"model": model},
    **common,
    mode=st.just("Disaggregated"),
    prefill=role,
    decode=role,
    kvTransfer=transfer,
    podLayout=st.sampled_from(["SeparatePods", "SharedPod"]),
)
colocated = objects({"model": model, "mode": st.just("Colocated")}, **common, colocated=role)
specs = st.one_of(disaggregated, colocated)
