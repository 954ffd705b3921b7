"""Every fault, asked for in each of the three ways, on real processes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from .server_process import SimServer, healthy, launched, prefill_leg, running, transfer_config, until

PROMPT = list(range(320))


def test_crash_at_start_logs_its_line_and_never_listens(folder: Path) -> None:
    fault = {"PHASEWATT_SIM_CRASH_AT_START": "out of patience", "PHASEWATT_SIM_CRASH_EXIT_CODE": "42"}
    with launched(folder, **fault) as process:
        assert process.wait(60) == 42
    log = (folder / "log").read_text()
    assert "out of patience" in log.splitlines()[-1]
    assert "Listening" not in log


def test_start_delay_comes_before_the_port_opens_and_obeys_sigterm(folder: Path) -> None:
    with launched(folder, "--sim-faults", '{"start_delay_s": 3600}') as process:
        until("the load to start", lambda: "Starting to load model" in (folder / "log").read_text())
        assert "Listening" not in (folder / "log").read_text()
        process.terminate()
        assert process.wait(60) == 0


def test_crash_on_demand(folder: Path) -> None:
    with running(folder) as server:
        with pytest.raises(httpx.TransportError):
            server.faults(crash_exit_code=7, crash_message="device lost", crash=True)
        assert server.exit_code() == 7
        assert "device lost" in server.log


def test_crash_after_so_many_requests(folder: Path) -> None:
    with running(folder, PHASEWATT_SIM_CRASH_AFTER_REQUESTS="2") as server:
        assert server.text("one")
        with pytest.raises(httpx.TransportError):
            server.complete("two")
        assert server.exit_code() == 1
        assert "EngineCore encountered a fatal error." in server.log


def test_hang_answers_health_but_no_request(folder: Path) -> None:
    with running(folder) as server, ThreadPoolExecutor() as clients:
        expected = server.text("x")
        server.faults(hang=True)
        stuck = clients.submit(server.text, "x")
        until("the request to be queued", lambda: server.http.get("/load").json() == {"server_load": 1})
        assert healthy(server.http)
        assert not stuck.done()
        assert server.http.delete("/sim/faults").json()["hang"] is False
        assert stuck.result() == expected


def test_a_dead_engine_is_unhealthy_and_answers_500(folder: Path) -> None:
    with running(folder) as server:
        server.faults(engine_dead=True)
        assert server.http.get("/health").status_code == 503
        assert server.complete("x").status_code == 500
        server.faults(engine_dead=False)
        assert server.complete("x").status_code == 200


def test_slow_factor_stretches_simulated_time(folder: Path) -> None:
    with running(folder, "--sim-time-scale", "100") as server:
        server.complete("x", 50, ignore_eos=True)
        plain = server.metric("vllm:request_decode_time_seconds_sum")
        server.faults(slow_factor=20)
        server.complete("x", 50, ignore_eos=True)
        slow = server.metric("vllm:request_decode_time_seconds_sum") - plain
        # 49 steps of at least 9 ms each; a stalled machine can only add to either figure.
        assert plain >= 49 * 0.009
        assert slow >= 20 * 49 * 0.009


def test_kv_misses_are_recomputed_counted_and_free_the_prefill_blocks(folder: Path, prefill: SimServer) -> None:
    with running(
        folder, "--kv-transfer-config", transfer_config("consumer"), PHASEWATT_SIM_KV_MISS_RATIO="0.5"
    ) as decode:
        texts = {decode.text(PROMPT, kv_transfer_params=prefill_leg(prefill, PROMPT)) for _ in range(4)}
        assert len(texts) == 1
        assert decode.metric("vllm:prompt_tokens_by_source_total", source="local_compute") == 2 * len(PROMPT)
        assert decode.metric("vllm:prompt_tokens_by_source_total", source="external_kv_transfer") == 2 * len(PROMPT)
        assert decode.metric("vllm:external_prefix_cache_hits_total") == 2 * len(PROMPT)
        assert decode.metric("vllm:external_prefix_cache_queries_total") == 4 * len(PROMPT)
        until("the blocks to come back", lambda: prefill.metric("vllm:kv_cache_usage_perc") == 0)


def test_faults_are_validated(colocated: SimServer) -> None:
    for changes in ({"explode": True}, {"kv_miss_ratio": 2}, {"slow_factor": 0}, {"crash_after_requests": 0}):
        assert colocated.http.post("/sim/faults", json=changes).status_code == 400
    assert colocated.http.post("/sim/faults", content=b"[]").status_code == 400
    assert colocated.http.get("/sim/faults").json()["slow_factor"] == 1
