"""Which engines may exchange KV: vLLM 0.32's compatibility hash (connector version 14) and tensor-parallel rule.

Sources: metadata.py and base_worker.py of vllm/distributed/kv_transfer/kv_connector/v1/nixl.
"""

import hashlib
import json

from phasewatt_enginesim import VERSION
from phasewatt_enginesim.config import EngineConfig

NIXL_CONNECTOR_VERSION = 14


def compatibility_hash(config: EngineConfig) -> str:
    """SHA-256 over everything that two engines must share: version, model string, dtype, KV shape and format."""
    factors = {
        "vllm_version": VERSION,
        "nixl_connector_version": NIXL_CONNECTOR_VERSION,
        "model": config.model_reference,
        "dtype": config.dtype,
        "num_kv_heads": config.model.kv_heads,
        "head_size": config.model.head_dim,
        "num_hidden_layers": config.model.layers,
        "cache_dtype": config.kv_cache_dtype,
        "transfer_mode": "pull",
    }
    return hashlib.sha256(json.dumps(factors, sort_keys=True).encode()).hexdigest()


def refuses_tensor_parallel(prefill_tp: int, decode_tp: int, kv_heads: int) -> bool:
    """Whether a pair cannot exchange KV: prefill spans more ranks than decode, and replicates its KV heads.

    vLLM asserts against it in base_worker.py (`is_kv_replicated` with a negative TP ratio).
    """
    return prefill_tp > decode_tp and prefill_tp > kv_heads
