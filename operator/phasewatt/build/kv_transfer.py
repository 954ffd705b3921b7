"""How vLLM's NixlConnector and the UCX below it are told to move the KV cache from prefill to decode."""

from __future__ import annotations

import json

from phasewatt.api.v1alpha1 import OnLoadFailure, PodLayout, Role, Spec, Transport
from phasewatt.plan.decisions import Decisions
from phasewatt.plan.topology import Engine

LEASE_SECONDS = 30
"""How long prefill keeps a prompt's blocks for a decode that gives no sign of life. vLLM's own default, stated so that
an upgrade does not change it unseen."""
ENV = {
    Transport.HOST: {
        # NIXL's UCX plugin refuses to start where it finds a GPU and no CUDA transport is listed, even with all buffers
        # in host memory; cuda_copy is the one that cannot reach a peer. UCX skips it on a node without GPUs.
        "UCX_TLS": "cuda_copy,tcp,sm,self",
    },
    Transport.CUDA_IPC: {
        # Without NVLink UCX turns the zero-copy GET off by default (openucx/ucx#7566), and decode pulls with GETs.
        "UCX_CUDA_IPC_ENABLE_GET_ZCOPY": "on",
        # A GET that no transport offers natively would be emulated with messages, about a hundred times slower and with
        # HTTP 200 (vllm-project/vllm#52607). Failing is what makes a lost CUDA IPC path visible.
        "UCX_PROTO_EMULATION_ENABLE": "n",
        # Logs the lane that carries the payload: the direct proof of the path.
        "UCX_PROTO_INFO": "y",
    },
}


def kv_transfer_config(spec: Spec, engine: Engine, transport: Transport) -> str:
    """Value of `vllm serve --kv-transfer-config` (vllm/config/kv_transfer.py), as compact JSON.

    Role, buffer device and backend are explicit because their defaults follow the platform.
    """
    recompute = spec.kv_transfer.on_load_failure is OnLoadFailure.RECOMPUTE
    config = {
        "kv_connector": "NixlConnector",
        "kv_role": "kv_producer" if engine.role is Role.PREFILL else "kv_consumer",
        "kv_buffer_device": "cuda" if transport is Transport.CUDA_IPC else "cpu",
        "kv_load_failure_policy": "recompute" if recompute else "fail",
        "kv_connector_extra_config": {"backends": ["UCX"], "kv_lease_duration": LEASE_SECONDS},
    }
    return json.dumps(config, separators=(",", ":"))


def kv_transfer_env(spec: Spec, decisions: Decisions, engine: Engine) -> list[dict[str, object]]:
    """Environment of one engine; empty where no KV moves between engines."""
    if decisions.transport is None:
        return []
    transport = decisions.transport.value
    ucx = {**ENV[transport], **({"UCX_TLS": _cuda_ipc_tls(spec)} if transport is Transport.CUDA_IPC else {})}
    env: list[dict[str, object]] = [
        # Decode dials this address, and vLLM's default is localhost.
        {"name": "VLLM_NIXL_SIDE_CHANNEL_HOST", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "VLLM_NIXL_SIDE_CHANNEL_PORT", "value": str(engine.side_channel_port)},
    ]
    return env + [{"name": name, "value": ucx[name]} for name in sorted(ucx)]


def _cuda_ipc_tls(spec: Spec) -> str:
    """Containers of one pod wire up over shared memory. Two pods share none and need tcp for that; it cannot carry the
    payload, because tcp has no GET of its own and emulation is off."""
    wire_up = "sm,self" if spec.pod_layout is PodLayout.SHARED_POD else "tcp,sm,self"
    return f"cuda_ipc,cuda_copy,{wire_up}"
