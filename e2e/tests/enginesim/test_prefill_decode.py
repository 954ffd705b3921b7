"""The prefill/decode protocol between real processes: what moves, what is counted, and what is refused."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from .server_process import SimServer, prefill_leg, running, transfer_config, until

SOURCES = ("local_compute", "local_cache_hit", "external_kv_transfer")
PROMPT = list(range(1000))
BLOCKS = 63
"""Blocks of 16 tokens that hold the prompt; the last one is half full."""
KV_BYTES_PER_TOKEN = 112 * 1024


def prompt_tokens(server: SimServer) -> dict[str, float]:
    return {source: server.metric("vllm:prompt_tokens_by_source_total", source=source) for source in SOURCES}


def moved(server: SimServer, before: dict[str, float]) -> list[float]:
    now = prompt_tokens(server)
    return [now[source] - before[source] for source in SOURCES]


def test_disaggregated_text_equals_local_text_and_counters_show_the_transfer(
    prefill: SimServer, decode: SimServer, colocated: SimServer
) -> None:
    before, size = prompt_tokens(decode), decode.metric("vllm:nixl_bytes_transferred_sum")
    hits = decode.metric("vllm:external_prefix_cache_hits_total")
    params = prefill_leg(prefill, PROMPT)
    assert params["do_remote_prefill"] is True
    assert params["do_remote_decode"] is False
    assert len(params["remote_block_ids"][0]) == BLOCKS
    assert params["remote_num_tokens"] == len(PROMPT)
    assert prefill.metric("vllm:kv_cache_usage_perc") > 0

    assert decode.text(PROMPT, 20, kv_transfer_params=params) == colocated.text(PROMPT, 20)

    assert moved(decode, before) == [0, 0, len(PROMPT)]
    assert decode.metric("vllm:nixl_bytes_transferred_sum") - size == BLOCKS * 16 * KV_BYTES_PER_TOKEN
    assert decode.metric("vllm:external_prefix_cache_hits_total") - hits == len(PROMPT)
    until("blocks to come back", lambda: prefill.metric("vllm:kv_cache_usage_perc") == 0)


def test_the_transfer_rate_is_the_links_at_any_time_scale(prefill: SimServer, decode: SimServer) -> None:
    decode.text(PROMPT, kv_transfer_params=prefill_leg(prefill, PROMPT))
    seconds = decode.metric("vllm:nixl_xfer_time_seconds_sum")
    assert decode.metric("vllm:nixl_bytes_transferred_sum") / seconds == pytest.approx(11e9)


def test_reused_parameters_read_overwritten_blocks(prefill: SimServer, decode: SimServer) -> None:
    """As with real NIXL: the read succeeds, the answer is wrong, and only the prefill engine can tell."""
    params = prefill_leg(prefill, PROMPT)
    right = decode.text(PROMPT, kv_transfer_params=params)
    late = prefill.metric("vllm:nixl_num_notifications_after_expiry_total")
    assert decode.text(PROMPT, kv_transfer_params=params) != right
    assert prefill.metric("vllm:nixl_num_notifications_after_expiry_total") == late + 1


@pytest.mark.parametrize(
    "wrong", [{"remote_port": 9}, {"remote_host": "host.invalid"}, {"remote_engine_id": "00000000-dead"}]
)
def test_an_unreachable_or_wrong_peer_fails_the_request(
    prefill: SimServer, decode: SimServer, wrong: dict[str, Any]
) -> None:
    params = prefill_leg(prefill, PROMPT)
    failed = decode.metric("vllm:nixl_num_failed_transfers_total")
    answer = decode.complete(PROMPT, kv_transfer_params={**params, **wrong})
    assert answer.status_code == 500
    assert answer.json()["error"]["type"] == "InternalServerError"
    assert decode.metric("vllm:nixl_num_failed_transfers_total") == failed + 1
    # The blocks are still held, and still good.
    assert decode.text(PROMPT, kv_transfer_params=params) == decode.text(PROMPT)


def test_a_failed_load_in_a_stream_ends_it_with_an_error(prefill: SimServer, decode: SimServer) -> None:
    params = prefill_leg(prefill, PROMPT)
    (event,) = decode.events("/v1/completions", {"prompt": PROMPT, "kv_transfer_params": {**params, "remote_port": 9}})
    assert event["error"]["code"] == 500
    decode.text(PROMPT, kv_transfer_params=params)


def test_incomplete_parameters_mean_local_compute(decode: SimServer) -> None:
    before = prompt_tokens(decode)
    params = {"do_remote_prefill": True, "remote_host": "127.0.0.1"}
    nonsense = {
        **params,
        "remote_engine_id": "e",
        "remote_request_id": "r",
        "remote_block_ids": [[1]],
        "remote_port": 0,
    }
    for incomplete in (params, nonsense):
        assert decode.text(PROMPT, kv_transfer_params=incomplete) == decode.text(PROMPT)
    assert moved(decode, before) == [4 * len(PROMPT), 0, 0]
    assert "Got invalid KVTransferParams" in decode.log


def test_an_engine_without_connector_recomputes_in_silence(
    prefill: SimServer, decode: SimServer, colocated: SimServer
) -> None:
    """What users hit when one role lacks its KV configuration: HTTP 200, and the prefill was for nothing."""
    before = prompt_tokens(colocated)
    params = prefill_leg(prefill, PROMPT)
    assert colocated.complete(PROMPT, kv_transfer_params=params).status_code == 200
    assert prefill.metric("vllm:kv_cache_usage_perc") > 0
    assert moved(colocated, before) == [len(PROMPT), 0, 0]
    assert "Got kv_transfer_params, but no KVConnector found." in colocated.log
    decode.text(PROMPT, kv_transfer_params=params)


def test_a_prefill_engine_without_connector_returns_no_parameters(colocated: SimServer) -> None:
    assert prefill_leg(colocated, PROMPT) is None


def test_decode_that_refuses_a_request_frees_the_prefill_blocks(prefill: SimServer, decode: SimServer) -> None:
    # Earlier tests left nothing behind.
    assert prefill.metric("vllm:kv_cache_usage_perc") == 0
    params = prefill_leg(prefill, PROMPT)
    answer = decode.complete(PROMPT, model="other", kv_transfer_params=params)
    assert answer.status_code == 404
    until("the blocks to come back", lambda: prefill.metric("vllm:kv_cache_usage_perc") == 0)


def test_blocks_that_nobody_reads_are_freed_when_their_lease_ends(folder: Path) -> None:
    config = transfer_config("producer", kv_connector_extra_config={"kv_lease_duration": 1})
    with running(folder, "--kv-transfer-config", config) as prefill:
        unwanted = prefill_leg(prefill, PROMPT)
        until("the lease to expire", lambda: prefill.metric("vllm:nixl_num_kv_expired_reqs_total") == 1)
        assert prefill.metric("vllm:kv_cache_usage_perc") == 0
        assert f"Releasing expired KV blocks for request {unwanted['remote_request_id']}" in prefill.log


def test_a_request_that_waits_keeps_its_remote_blocks_by_heartbeats(folder: Path) -> None:
    lease_s = 6
    lease = {"kv_connector_extra_config": {"kv_lease_duration": lease_s}}
    decode_flags = ("--max-num-seqs", "1", "--kv-transfer-config", transfer_config("consumer", **lease))
    with (
        running(folder / "p", "--kv-transfer-config", transfer_config("producer", **lease)) as prefill,
        running(folder / "d", *decode_flags, PHASEWATT_SIM_SLOW_FACTOR="100") as decode,
        ThreadPoolExecutor() as clients,
    ):
        first = clients.submit(decode.complete, "occupies the only place", 2000, ignore_eos=True)
        until("the first request to run", lambda: decode.metric("vllm:num_requests_running") == 1)
        second = clients.submit(decode.complete, PROMPT, kv_transfer_params=prefill_leg(prefill, PROMPT))
        # One heartbeat a second: after this many the first lease is long over.
        until("heartbeats", lambda: prefill.log.count("POST /heartbeat") >= lease_s + 3)
        assert prefill.metric("vllm:nixl_num_kv_expired_reqs_total") == 0
        decode.faults(slow_factor=0.1)
        assert first.result().status_code == second.result().status_code == 200
        assert decode.metric("vllm:prompt_tokens_by_source_total", source="external_kv_transfer") == len(PROMPT)


def test_engines_of_different_configuration_refuse_each_other(folder: Path, prefill: SimServer) -> None:
    consumer = transfer_config("consumer")
    with running(folder / "other", "--kv-transfer-config", consumer, "--dtype", "float16") as other:
        assert other.complete(PROMPT, kv_transfer_params=prefill_leg(prefill, PROMPT)).status_code == 500
        assert "NIXL compatibility hash mismatch" in other.log
    lax = transfer_config("consumer", kv_connector_extra_config={"enforce_handshake_compat": False})
    with running(folder / "lax", "--kv-transfer-config", lax, "--dtype", "float16") as other:
        assert other.complete(PROMPT, kv_transfer_params=prefill_leg(prefill, PROMPT)).status_code == 200


def test_a_dead_prefill_engine_with_policy_recompute(folder: Path, decode: SimServer) -> None:
    consumer = transfer_config("consumer", kv_load_failure_policy="recompute")
    with running(folder / "d", "--kv-transfer-config", consumer) as forgiving:
        with running(folder / "p", "--kv-transfer-config", transfer_config("producer")) as prefill:
            params = prefill_leg(prefill, PROMPT)
        assert forgiving.text(PROMPT, kv_transfer_params=params) == decode.text(PROMPT)
        assert moved(forgiving, dict.fromkeys(SOURCES, 0)) == [len(PROMPT), 0, 0]
        assert forgiving.metric("vllm:nixl_num_failed_transfers_total") == 1


def test_host_buffers_and_forbidden_cuda_ipc_are_slower(folder: Path, prefill: SimServer) -> None:
    rates = []
    host = transfer_config("consumer", kv_buffer_device="cpu")
    for index, (config, tls) in enumerate([(host, "cuda_ipc"), (transfer_config("consumer"), "^cuda_ipc")]):
        with running(folder / str(index), "--kv-transfer-config", config, UCX_TLS=tls) as decode:
            decode.text(PROMPT, kv_transfer_params=prefill_leg(prefill, PROMPT))
            size = decode.metric("vllm:nixl_bytes_transferred_sum")
            rates.append(size / decode.metric("vllm:nixl_xfer_time_seconds_sum"))
    assert rates == [pytest.approx(4.5e9), pytest.approx(0.5e9)]


def test_each_tensor_parallel_rank_reports_its_share(folder: Path) -> None:
    both = ("--tensor-parallel-size", "2", "--kv-transfer-config")
    with (
        running(folder / "p", *both, transfer_config("producer")) as prefill,
        running(folder / "d", *both, transfer_config("consumer")) as decode,
    ):
        decode.text(PROMPT, kv_transfer_params=prefill_leg(prefill, PROMPT))
        assert decode.metric("vllm:nixl_bytes_transferred_count") == 2
        assert decode.metric("vllm:nixl_bytes_transferred_sum") == BLOCKS * 16 * KV_BYTES_PER_TOKEN


def test_a_port_where_something_else_answers_fails_the_request(
    prefill: SimServer, decode: SimServer, colocated: SimServer
) -> None:
    params = prefill_leg(prefill, PROMPT)
    stranger = {**params, "remote_engine_id": "stranger", "remote_port": colocated.http.base_url.port}
    assert decode.complete(PROMPT, kv_transfer_params=stranger).status_code == 500
    assert decode.text(PROMPT, kv_transfer_params=params) == colocated.text(PROMPT)


def test_parameters_survive_a_trip_through_json(prefill: SimServer, decode: SimServer) -> None:
    params = json.loads(json.dumps(prefill_leg(prefill, PROMPT)))
    assert decode.complete(PROMPT, kv_transfer_params=params).status_code == 200
