"""Real vLLM, real NIXL, real router on the cluster: the answer is right and the KV cache really moved."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import yaml
from phasewatt_suite.cluster import Cluster
from phasewatt_suite.install import Release
from phasewatt_suite.serving import Served, pod_metrics, total
from phasewatt_testbed.paths import REPO

Serve = Callable[..., Served]

BLOCK = 128
"""Tokens of one KV block of vLLM on a CPU; only full blocks move."""

PROMPTS = [f"story {n}: " + " ".join(f"{n} times {i} is {n * i}." for i in range(60)) for n in (3, 5, 7)]


@pytest.fixture(scope="module")
def quickstart() -> dict[str, Any]:
    manifest: dict[str, Any] = yaml.safe_load((REPO / "examples" / "quickstart.yaml").read_text())
    return manifest


def colocated(quickstart: dict[str, Any]) -> dict[str, Any]:
    """The same model and engine, one engine, no KV transfer."""
    kept = {key: quickstart["spec"][key] for key in ("model", "engine") if key in quickstart["spec"]}
    role = {key: value for key, value in quickstart["spec"].get("decode", {}).items() if key in ("resources", "env")}
    spec = {**kept, "mode": "Colocated", "colocated": role}
    return {**quickstart, "metadata": {"name": "together"}, "spec": spec}


def test_the_kv_cache_moves_and_the_text_is_right(
    cluster: Cluster, release: Release, served: Serve, http: Any, quickstart: dict[str, Any]
) -> None:
    apart = served(quickstart, timeout=300)
    answers = [apart.complete(prompt, 12) for prompt in PROMPTS]
    texts = [answer["choices"][0]["text"] for answer in answers]
    assert len(set(texts)) == len(PROMPTS), "the tiny model answers every prompt alike: equality would prove nothing"

    groups = cluster.get("dinf", apart.name, apart.namespace)["status"]["groups"]
    pods = {engine["role"]: engine["pod"] for group in groups for engine in group["engines"]}
    decode = pod_metrics(http, apart.namespace, pods["decode"], 8000)
    full_blocks = sum(answer["usage"]["prompt_tokens"] // BLOCK * BLOCK for answer in answers)
    moved = total(decode, "vllm:prompt_tokens_by_source_total", source="external_kv_transfer")
    assert full_blocks > 3 * 2 * BLOCK
    assert moved >= full_blocks
    assert total(decode, "vllm:nixl_bytes_transferred_sum") > 0
    assert total(decode, "vllm:nixl_num_failed_transfers_total") == 0
    cluster.wait_condition(apart.name, apart.namespace, "KVTransferVerified", timeout=60)

    together = served(colocated(quickstart), timeout=300)
    assert [together.text(prompt, 12) for prompt in PROMPTS] == texts
