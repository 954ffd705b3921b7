"""The exposition against that of a real vLLM: `fixtures/vllm_metrics.txt` is a scrape of vLLM 0.32 on a CPU."""

from __future__ import annotations

from pathlib import Path

import pytest
from phasewatt_enginesim.metrics.buckets import request_tokens
from phasewatt_enginesim.nixl.consumer import contiguous_runs
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from .server_process import running, transfer_config

REAL = Path(__file__).parents[1] / "fixtures" / "vllm_metrics.txt"
CACHE_CONFIG = "vllm:cache_config_info"
"""Its labels are every setting vLLM's cache has; the simulator gives those that mean something to it."""

Shape = dict[str, set[tuple[tuple[str, str], ...]]]


def families(text: str) -> dict[str, Metric]:
    found = (family for family in text_string_to_metric_families(text) if family.name.startswith("vllm:"))
    return {family.name: family for family in found if not family.name.endswith("_created")}


def shape(family: Metric) -> Shape:
    """Per sample name its label sets, without the values that depend on who serves."""
    result: Shape = {}
    for sample in family.samples:
        labels = {name: "" if name == "model_name" else value for name, value in sample.labels.items()}
        if not sample.name.endswith("_created"):
            result.setdefault(sample.name, set()).add(tuple(sorted(labels.items())))
    return result


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> str:
    flags = ("--max-model-len", "2048", "--kv-transfer-config", transfer_config("consumer"))
    with running(tmp_path_factory.mktemp("metrics"), *flags) as server:
        return server.http.get("/metrics").text


def test_every_family_of_real_vllm_is_there_and_no_other(simulated: str) -> None:
    assert families(simulated).keys() == families(REAL.read_text()).keys()


def test_types_sample_names_labels_and_buckets_are_vllms(simulated: str) -> None:
    ours = families(simulated)
    for name, real in families(REAL.read_text()).items():
        assert ours[name].type == real.type, name
        if name != CACHE_CONFIG:
            assert shape(ours[name]) == shape(real), name


def test_the_cache_configuration_uses_vllms_label_names(simulated: str) -> None:
    (ours,), (real,) = (families(text)[CACHE_CONFIG].samples for text in (simulated, REAL.read_text()))
    assert ours.labels.keys() <= real.labels.keys()
    assert int(ours.labels["block_size"]) * int(ours.labels["num_gpu_blocks"]) == int(
        ours.labels["kv_cache_size_tokens"]
    )


def test_every_help_text_says_simulated(simulated: str) -> None:
    assert [name for name, family in families(simulated).items() if "Simulated." not in family.documentation] == []


def test_token_buckets_end_at_the_longest_sequence() -> None:
    assert request_tokens(100) == (1, 2, 5, 10, 20, 50, 100)
    assert request_tokens(2048)[-1] == 2000


@pytest.mark.parametrize(("blocks", "runs"), [([], 0), ([1, 2, 3], 1), ([3, 2, 1], 3), ([1, 2, 9, 10, 4], 3)])
def test_contiguous_blocks_share_a_descriptor(blocks: list[int], runs: int) -> None:
    assert contiguous_runs(blocks) == runs
