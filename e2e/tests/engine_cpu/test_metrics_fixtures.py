"""The committed /metrics texts are those of the real programs: same series, same labels, same buckets.

`PHASEWATT_WRITE_FIXTURES=1` writes them anew from this run.
"""

from __future__ import annotations

import os
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from .conftest import Engines, Router

pytestmark = pytest.mark.e2e

FIXTURES = Path(__file__).parents[1] / "fixtures"
PREFIXES = ("vllm:", "vllm_router_")


def ours(metrics: str) -> str:
    """The families of vLLM and of its router, without those of the Python process around them."""
    lines = []
    for line in metrics.splitlines(keepends=True):
        name = line.split(" ")[2] if line.startswith("#") else line
        if name.startswith(PREFIXES):
            lines.append(line)
    return "".join(lines)


def series(metrics: str) -> set[tuple[str, tuple[str, ...], str | None]]:
    """Every sample's name, label names and histogram bound: all that a scraper may rely on but the values."""
    return {
        (sample.name, tuple(sorted(sample.labels)), sample.labels.get("le"))
        for family in text_string_to_metric_families(metrics)
        for sample in family.samples
    }


@pytest.mark.parametrize("name", ["prefill", "decode", "colocated", "router"])
def test_fixture_shows_what_the_real_program_exports(engines: Engines, router: Router, name: str) -> None:
    for turn in range(2):
        router.endpoint.text([10 + turn] * 300)
        engines.colocated.text([10 + turn] * 300)
    if name == "router":
        path, text = FIXTURES / "vllm_router_metrics.txt", httpx.get(router.metrics_url, trust_env=False).text
    else:
        path, text = FIXTURES / f"vllm_metrics_{name}.txt", getattr(engines, name).metrics()
    if os.environ.get("PHASEWATT_WRITE_FIXTURES"):
        FIXTURES.mkdir(exist_ok=True)
        path.write_text(ours(text))
    assert series(path.read_text()) == series(ours(text))
