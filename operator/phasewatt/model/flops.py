"""Floating-point operations of a forward pass: two per parameter and token, plus causal attention.

The counts are the standard ones for a decoder (2N per token: Kaplan et al. 2020, "Scaling Laws for Neural Language
Models"); the attention term 4 L H d_h (n p + n (n + 1) / 2) counts QK^T and PV over the causal triangle.
"""

from phasewatt.model.catalogue import Model


def linear_flops(model: Model, tokens: int) -> int:
    """FLOPs of all layers' matrices for `tokens` tokens."""
    return 2 * model.linear_parameters * tokens


def head_flops(model: Model, sampled_tokens: int) -> int:
    """FLOPs of the output head; only tokens that are sampled from need it."""
    return 2 * model.head_parameters * sampled_tokens


def attention_flops(model: Model, new_tokens: int, cached_tokens: int) -> int:
    """FLOPs of causal attention for `new_tokens` that also attend to `cached_tokens` before them."""
    pairs = new_tokens * cached_tokens + new_tokens * (new_tokens + 1) // 2
    return 4 * model.layers * model.heads * model.head_dim * pairs


def prompt_flops(model: Model, tokens: int, cached_tokens: int = 0) -> int:
    """FLOPs to prefill a prompt whose first `cached_tokens` tokens have their KV already; the head runs once.

    Raises:
        ValueError: `cached_tokens` is not in [0, tokens].
    """
    if not 0 <= cached_tokens <= tokens:
        raise ValueError(f"cached_tokens must be within [0, {tokens}], got {cached_tokens}")
    new = tokens - cached_tokens
    return linear_flops(model, new) + attention_flops(model, new, cached_tokens) + head_flops(model, 1 if new else 0)
