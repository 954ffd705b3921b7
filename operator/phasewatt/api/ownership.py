"""Arguments and environment variables that the operator sets itself, and what a user writes instead.

A second `--port` or `--kv-transfer-config` would win over ours and break the object silently, so the API server refuses
it. vLLM and vllm-router read arguments with argparse, which takes `--port=1`, `--port 1`, underscores (vLLM), dotted
members (`--kv-transfer-config.kv_role`, vLLM) and any unambiguous abbreviation (`--tensor` for
`--tensor-parallel-size`): all are refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from phasewatt.api.base import Rule


@dataclass(frozen=True)
class Owned:
    """Names that belong to the operator, and the sentence that says what to write instead."""

    names: tuple[str, ...]
    instead: str


ENGINE_ARGS = (
    Owned(("--host", "--port", "--uds", "--grpc"), "the operator sets where an engine listens; remove it"),
    Owned(("--model", "--served-model-name"), "set spec.model.name (and spec.model.source) instead"),
    Owned(("--kv-transfer-config", "--kv-offloading-backend", "--kv-offloading-size"), "set spec.kvTransfer instead"),
    Owned(("--tensor-parallel-size", "-tp"), "set tensorParallelSize of the role instead"),
    Owned(
        (
            "--pipeline-parallel-size",
            "-pp",
            "--nnodes",
            "-n",
            "--node-rank",
            "-r",
            "--master-addr",
            "--master-port",
            "--headless",
            "--api-server-count",
            "-asc",
        ),
        "an engine is one server on one node; set engines and tensorParallelSize of the role instead",
    ),
    Owned(
        (
            "--data-parallel-size",
            "--data-parallel-size-local",
            "--data-parallel-rank",
            "--data-parallel-start-rank",
            "--data-parallel-address",
            "--data-parallel-rpc-port",
            "--data-parallel-backend",
            "--data-parallel-hybrid-lb",
            "--data-parallel-external-lb",
            "--data-parallel-multi-port-external-lb",
            "-dp",
            "-dpn",
            "-dpr",
            "-dpl",
            "-dpa",
            "-dpp",
            "-dpb",
            "-dph",
            "-dpe",
            "-dpm",
        ),
        "an engine is one replica; set engines of the role or spec.replicas instead",
    ),
    Owned(("--max-model-len",), "set spec.engine.maxModelLen instead"),
    Owned(("--max-num-seqs",), "set maxNumSeqs of the role instead"),
    Owned(("--max-num-batched-tokens",), "set maxBatchedTokens of the role instead"),
    Owned(
        ("--gpu-memory-utilization", "--device-memory-utilization", "--kv-cache-memory-bytes"),
        "set gpuMemory of the role instead",
    ),
    Owned(("--device-ids",), "the operator pins engines to GPUs; set spec.gpus instead"),
    Owned(("--shutdown-timeout",), "set spec.rollout.drainTimeout instead"),
    Owned(("--disable-access-log-for-endpoints",), "the operator keeps probes out of the access log; remove it"),
    Owned(("--disable-log-stats",), "the engine's metrics prove that the KV cache is transferred; remove it"),
    Owned(
        ("--enable-sleep-mode", "--enable-cumem-allocator"),
        "memory of that allocator cannot be shared with another engine; remove it",
    ),
    Owned(
        ("--ssl-keyfile", "--ssl-certfile", "--ssl-ca-certs", "--ssl-cert-reqs", "--ssl-ciphers"),
        "router and probes speak plain HTTP to the engines; end TLS in front of the Service of this object",
    ),
    Owned(("--api-key",), "arguments are no place for a secret; guard the Service of this object instead"),
    Owned(
        ("--hf-token",), "arguments are no place for a secret; set spec.model.source.huggingFace.tokenSecretRef instead"
    ),
    Owned(("--config",), "a file would hide arguments from the operator; write them out in args instead"),
)
"""Of `vllm serve` 0.32.0 (vllm/engine/arg_utils.py, vllm/entrypoints/launchers/cli_args.py)."""

AGREED_ARGS = Owned(
    (
        "--dtype",
        "--kv-cache-dtype",
        "--block-size",
        "--attention-backend",
        "--quantization",
        "-q",
        "--revision",
        "--hf-overrides",
        "--speculative-config",
        "-sc",
        "--disable-hybrid-kv-cache-manager",
    ),
    "prefill and decode must agree on it, or decode refuses the KV cache; put it in spec.engine.args instead",
)
"""What enters vLLM's compatibility hash or handshake between the roles (kv_connector/v1/nixl/metadata.py)."""

ROUTER_ARGS = (
    Owned(("--host", "--port"), "the operator sets where the router listens; remove it"),
    Owned(("--prometheus-host", "--prometheus-port"), "the router's metrics are on port 29000; remove it"),
    Owned(("--policy", "--prefill-policy", "--decode-policy"), "set spec.router.policy instead"),
    Owned(
        (
            "--prefill",
            "--decode",
            "--worker-urls",
            "--vllm-pd-disaggregation",
            "--mini-lb",
            "--enable-igw",
            "--intra-node-data-parallel-size",
            "--service-discovery",
            "--service-discovery-port",
            "--service-discovery-namespace",
            "--selector",
            "--prefill-selector",
            "--decode-selector",
            "--vllm-discovery-address",
        ),
        "the operator tells the router its engines; set engines of the roles instead",
    ),
    Owned(("--kv-connector",), "set spec.kvTransfer instead"),
    Owned(("--api-key",), "arguments are no place for a secret; guard the Service of this object instead"),
)
"""Of `vllm-router` 0.1.17 (vllm_router/router_args.py)."""

ENGINE_ENV = (
    Owned(
        ("VLLM_NIXL_SIDE_CHANNEL_HOST", "VLLM_NIXL_SIDE_CHANNEL_PORT"),
        "the operator sets where engines find one another; remove it",
    ),
    Owned(
        ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"), "the operator pins engines to GPUs; set spec.gpus instead"
    ),
    Owned(("UCX_TLS", "UCX_PROTO_EMULATION_ENABLE"), "set spec.kvTransfer.nixl.transport instead"),
    Owned(("PYTHONHASHSEED",), "all engines of an object must hash alike; remove it"),
    Owned(("VLLM_API_KEY",), "router and probes hold no key; guard the Service of this object instead"),
)


def refused_args(entries: tuple[Owned, ...]) -> tuple[Rule, ...]:
    """CEL rules on a list of arguments, one per entry, that refuse its names in every spelling argparse takes."""
    return tuple(_refused(owned, entries) for owned in entries)


def _refused(owned: Owned, entries: tuple[Owned, ...]) -> Rule:
    # `--prefill` is a name of its own, although `--prefill-policy` begins with it: argparse prefers an exact name.
    others = [name for entry in entries if entry is not owned for name in entry.names]
    exact = [name for name in others if any(own.startswith(name) for own in owned.names)]
    typed = "a.split('=', 2)[0].split('.', 2)[0].replace('_', '-')"
    spared = f" || {typed} in {_quoted(exact)}" if exact else ""
    begun = f"{_quoted(owned.names)}.exists(own, own.startsWith({typed}))"
    return Rule(
        f"self.all(a, !a.startsWith('-'){spared} || !{begun})",
        f"{', '.join(owned.names)}: {owned.instead}",
        reason="FieldValueForbidden",
    )


def refused_env(owned: Owned) -> Rule:
    """The CEL rule on a list of environment variables that refuses these names."""
    return Rule(
        f"self.all(e, !(e.name in {_quoted(owned.names)}))",
        f"{', '.join(owned.names)}: {owned.instead}",
        reason="FieldValueForbidden",
    )


def _quoted(names: Iterable[str]) -> str:
    return "[" + ", ".join(f"'{name}'" for name in names) + "]"
