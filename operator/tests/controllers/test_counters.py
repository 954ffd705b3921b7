"""From cumulative counters to the traffic of the last minutes."""

from __future__ import annotations

from dataclasses import astuple, fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from phasewatt.controllers.counters import WINDOW, Counters, TrafficWindow, gist, read_counters
from phasewatt.plan.types import KVTraffic

SCRAPE = """\
# HELP vllm:prompt_tokens_by_source_total Prompt tokens by source.
# TYPE vllm:prompt_tokens_by_source_total counter
vllm:prompt_tokens_by_source_total{engine="0",model_name="m",source="external_kv_transfer"} 4096.0
vllm:prompt_tokens_by_source_total{engine="1",model_name="m",source="external_kv_transfer"} 1024.0
vllm:prompt_tokens_by_source_total{engine="0",model_name="m",source="local_compute"} 16.0
vllm:prompt_tokens_by_source_total{engine="0",model_name="m",source="local_cache_hit"} 32.0
vllm:prompt_tokens_by_source_created{engine="0",model_name="m",source="local_compute"} 1.7e+09
vllm:nixl_bytes_transferred_bucket{engine="0",le="1024.0",model_name="m"} 1.0
vllm:nixl_bytes_transferred_sum{engine="0",model_name="m"} 5.0e+06
vllm:nixl_xfer_time_seconds_sum{engine="0",model_name="m"} 0.25
vllm:nixl_num_failed_transfers_total{engine="0",model_name="m"} 2.0
vllm:request_success_total{engine="0",finished_reason="stop",model_name="m"} 3.0
vllm:request_success_total{engine="0",finished_reason="length",model_name="m"} 4.0
vllm:cache_config_info{block_size="32",engine="0",num_gpu_blocks="100"} 1.0
vllm:num_requests_running{engine="0",model_name="m"} 7.0
"""

TOTALS = st.builds(Counters, **{f.name: st.integers(0, 10**9).map(float) for f in fields(Counters)[:-1]})


def test_a_scrape_is_summed_over_engines_and_reasons() -> None:
    assert read_counters(SCRAPE) == Counters(
        requests=7,
        transferred=5120,
        recomputed=16,
        cached=32,
        failed_transfers=2,
        bytes=5e6,
        seconds=0.25,
        block_size=32,
    )


def test_counters_are_read_without_their_suffix_too() -> None:
    assert read_counters(SCRAPE.replace("_total{", "{")) == read_counters(SCRAPE)


def test_an_engine_that_exports_none_of_it_reads_as_zero() -> None:
    assert read_counters("up 1\n").is_zero()


FIXTURE = Path(__file__).parents[3] / "e2e" / "tests" / "fixtures" / "vllm_metrics_decode.txt"


@pytest.mark.skipif(not FIXTURE.exists(), reason="recorded with the engine image")
def test_a_real_decode_engine_shows_transferred_tokens() -> None:
    reading = read_counters(FIXTURE.read_text())
    assert reading.transferred > 0
    assert reading.bytes > 0
    assert reading.requests > 0


@given(TOTALS, TOTALS)
def test_growth_adds_up(before: Counters, growth: Counters) -> None:
    assert before.plus(growth).since(before) == growth


@given(TOTALS)
def test_a_restarted_engine_counts_from_zero(reading: Counters) -> None:
    assert reading.since(reading.plus(Counters(requests=1))) == reading


@given(st.lists(TOTALS, min_size=1, max_size=8))
def test_the_window_holds_all_growth_while_it_is_young(parts: list[Counters]) -> None:
    window, total = TrafficWindow(), Counters()
    for step, part in enumerate(parts):
        total = total.plus(part)
        window.add(float(step), total)
    assert window.traffic() == KVTraffic(*(int(v) for v in astuple(total)[:5]), *astuple(total)[5:])


def test_old_traffic_leaves_only_when_newer_comes() -> None:
    window = TrafficWindow()
    window.add(0.0, Counters(requests=1, recomputed=100))
    window.add(10 * WINDOW, Counters(requests=1, recomputed=100))
    assert window.traffic().recomputed == 100
    window.add(11 * WINDOW, Counters(requests=2, recomputed=100, transferred=50))
    assert (window.traffic().recomputed, window.traffic().transferred, window.traffic().requests) == (0, 50, 1)


def test_only_what_a_verdict_turns_on_is_in_the_gist() -> None:
    busy = KVTraffic(requests=10, transferred=1000, recomputed=10)
    assert gist(busy) == gist(KVTraffic(requests=20, transferred=2000, recomputed=21))
    assert gist(busy) != gist(KVTraffic(requests=20, transferred=2000, recomputed=2000))
    assert gist(busy) != gist(KVTraffic(requests=10, transferred=1000, recomputed=10, failed_transfers=1))
    assert gist(KVTraffic()) != gist(busy)
