"""A simulated vLLM server: vLLM's command line, HTTP API, metrics and NIXL prefill/decode protocol, without a model.

Speed comes from `phasewatt.model`; the text is a deterministic function of the prompt. Everything it reports is
simulated, and says so.
"""

VLLM_VERSION = "0.32.0"
"""The vLLM release whose behaviour is copied."""

VERSION = f"{VLLM_VERSION}+phasewatt.simulated"
"""What `/version` answers and what enters the NIXL compatibility hash: a simulator never pairs with a real engine."""
