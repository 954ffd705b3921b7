"""SIGTERM: vLLM's abort and drain."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .server_process import prefill_leg, running, transfer_config, until

LONG = {"max_tokens": 400, "ignore_eos": True}


def test_idle_server_ends_at_once_with_code_0(folder: Path) -> None:
    with running(folder) as server:
        server.terminate()
        assert server.exit_code() == 0


def test_without_a_timeout_requests_in_flight_are_aborted(folder: Path) -> None:
    with running(folder, PHASEWATT_SIM_HANG="1") as server, ThreadPoolExecutor() as clients:
        answer = clients.submit(server.complete, "never ends", **LONG)
        until("the request", lambda: server.http.get("/load").json() == {"server_load": 1})
        server.terminate()
        assert answer.result().json()["choices"][0]["finish_reason"] == "abort"
        assert server.exit_code() == 0
        assert "aborting in-flight requests count=1" in server.log


def test_a_drain_finishes_what_runs_and_turns_new_requests_away(folder: Path) -> None:
    with running(folder, "--shutdown-timeout", "60") as server, ThreadPoolExecutor() as clients:
        server.faults(hang=True)
        answers = [clients.submit(server.complete, f"prompt {i}", **LONG) for i in range(3)]
        until("the requests", lambda: server.http.get("/load").json() == {"server_load": 3})
        server.terminate()
        until("the drain", lambda: "start mode=drain" in server.log)
        late = server.complete("too late").json()["choices"][0]
        assert (late["text"], late["finish_reason"]) == ("", "abort")
        server.faults(hang=False)
        assert [a.result().json()["usage"]["completion_tokens"] for a in answers] == [400] * 3
        assert server.exit_code() == 0


def test_a_drain_that_takes_too_long_aborts_the_rest(folder: Path) -> None:
    with running(folder, "--shutdown-timeout", "1", PHASEWATT_SIM_HANG="1") as server, ThreadPoolExecutor() as clients:
        answer = clients.submit(server.complete, "stuck", **LONG)
        until("the request", lambda: server.http.get("/load").json() == {"server_load": 1})
        server.terminate()
        assert answer.result().json()["choices"][0]["finish_reason"] == "abort"
        assert server.exit_code() == 0
        assert "drain did not finish in 1 s" in server.log


def test_a_draining_prefill_engine_waits_until_its_blocks_are_read(folder: Path) -> None:
    producer, consumer = transfer_config("producer"), transfer_config("consumer")
    prompt = list(range(200))
    with (
        running(folder / "p", "--shutdown-timeout", "60", "--kv-transfer-config", producer) as prefill,
        running(folder / "d", "--kv-transfer-config", consumer) as decode,
    ):
        params = prefill_leg(prefill, prompt)
        prefill.terminate()
        until("the drain", lambda: "start mode=drain" in prefill.log)
        assert decode.complete(prompt, kv_transfer_params=params).status_code == 200
        assert prefill.exit_code() == 0
        assert "drain did not finish" not in prefill.log
