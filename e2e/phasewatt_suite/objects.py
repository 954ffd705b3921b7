"""The objects that the suite applies: small ones, near-zero requests, so that dozens of engines fit on two cores."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

VERSION = version("phasewatt")

REGISTRY = "ghcr.io/phasewatt"
SIM_IMAGE = f"{REGISTRY}/engine-sim:{VERSION}"
CPU_IMAGE = f"{REGISTRY}/engine-cpu:{VERSION}"
OPERATOR_IMAGE = f"{REGISTRY}/operator:{VERSION}"

TINY = {"requests": {"cpu": "1m", "memory": "32Mi"}}


def inference(name: str = "chat", **spec: Any) -> dict[str, Any]:
    """A DisaggregatedInference of simulated engines; keyword arguments replace fields of `spec`."""
    mode = spec.get("mode", "Disaggregated")
    roles = ("colocated",) if mode == "Colocated" else ("prefill", "decode")
    base: dict[str, Any] = {
        "model": {"name": "sim/llama", "source": {"path": "/models/llama-3.2-3b"}},
        "rollout": {"drainTimeout": "30s"},
        "router": {"resources": TINY},
        **{role: {"resources": TINY} for role in roles},
    }
    return {
        "apiVersion": "phasewatt.io/v1alpha1",
        "kind": "DisaggregatedInference",
        "metadata": {"name": name},
        "spec": {**base, **spec},
    }
