"""KV cache sizes: exact integer arithmetic.

KV per token is 2 (key and value) x layers x KV heads x head dimension x bytes per value, the usual count for
grouped-query attention (Li et al., "Revisiting Disaggregated LLM Serving": 112 KiB per token for Llama-3.2-3B).
"""

from phasewatt.model.catalogue import GIB, Gpu, Model

DEFAULT_BLOCK_TOKENS = 16
"""Tokens of one KV block on a CUDA GPU, vLLM's default `--block-size`."""

ACTIVATION_BYTES = 2 * GIB
"""Memory kept for activations and graphs: 0.9 x 40 GiB less weights and this leaves Li et al.'s 28 GiB of KV."""


def kv_bytes_per_token(model: Model) -> int:
    """Bytes of KV cache that one token takes over all layers (and all tensor-parallel ranks together)."""
    return 2 * model.layers * model.kv_heads * model.head_dim * model.bytes_per_value


def kv_bytes(model: Model, tokens: int) -> int:
    """Bytes of KV cache for a sequence of `tokens` tokens.

    Raises:
        ValueError: `tokens` is negative.
    """
    if tokens < 0:
        raise ValueError(f"tokens must be >= 0, got {tokens}")
    return kv_bytes_per_token(model) * tokens


def kv_blocks(tokens: int, block_tokens: int = DEFAULT_BLOCK_TOKENS) -> int:
    """Blocks that hold `tokens` tokens; the last one may be partly filled."""
    return -(-tokens // block_tokens)


def kv_pool_bytes(gpu: Gpu, model: Model, memory_utilization: float, gpus: int = 1) -> int:
    """KV cache bytes that `gpus` GPUs leave one engine: utilised memory less weights and activations, at least 0."""
    usable = memory_utilization * gpu.memory_bytes * gpus - model.weight_bytes - ACTIVATION_BYTES * gpus
    return max(0, int(usable))


def admission_cap(pool_bytes: int, model: Model, prompt_tokens: int, output_tokens: int) -> int:
    """Requests that can run at once without preemption: floor(KV bytes / bytes per request).

    Beyond this batch vLLM evicts and recomputes requests: the cliff that Li et al. see for colocated engines past 32.

    Raises:
        ValueError: the request has no tokens.
    """
    if prompt_tokens + output_tokens <= 0:
        raise ValueError("a request needs at least one token")
    return pool_bytes // kv_bytes(model, prompt_tokens + output_tokens)
