"""Through the real vllm-router, as the router image locks it: what it forwards is what the engines understand."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from .server_process import DEADLINE_S, MODEL, SimServer, until

ROUTER = Path(__file__).parents[3] / "images" / "router"
PROMPT = list(range(640))

pytestmark = pytest.mark.skipif(shutil.which("uv") is None, reason="uv starts the router out of its lock file")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def router(prefill: SimServer, decode: SimServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    log, port = tmp_path_factory.mktemp("router") / "log", free_port()
    command = [
        *("uv", "run", "--project", str(ROUTER), "--frozen", "--isolated", "vllm-router", "--vllm-pd-disaggregation"),
        *("--prefill", str(prefill.http.base_url), "--decode", str(decode.http.base_url), "--policy", "round_robin"),
        *("--host", "127.0.0.1", "--port", str(port), "--prometheus-port", str(free_port()), "--disable-retries"),
    ]
    with (
        log.open("wb") as out,
        subprocess.Popen(command, stdout=out, stderr=out) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=DEADLINE_S) as http,
    ):

        def ready() -> bool:
            assert process.poll() is None, log.read_text()
            try:
                return http.get("/readiness").status_code == 200
            except httpx.TransportError:
                return False

        try:
            until("the router to be ready", ready)
            yield http
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(DEADLINE_S)


def external(decode: SimServer) -> float:
    return decode.metric("vllm:prompt_tokens_by_source_total", source="external_kv_transfer")


def test_a_completion_is_prefilled_on_one_engine_and_decoded_on_the_other(
    router: httpx.Client, prefill: SimServer, decode: SimServer, colocated: SimServer
) -> None:
    before = external(decode)
    body = {"model": MODEL, "prompt": PROMPT, "max_tokens": 12}
    answer = router.post("/v1/completions", json=body).raise_for_status().json()
    assert answer["choices"][0]["text"] == colocated.text(PROMPT, 12)
    assert answer["usage"] == {"prompt_tokens": 640, "completion_tokens": 12, "total_tokens": 652}
    assert external(decode) - before == len(PROMPT)
    assert prefill.metric("vllm:kv_cache_usage_perc") == 0


def test_a_streamed_chat_passes_through(router: httpx.Client, decode: SimServer) -> None:
    before = external(decode)
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hello " * 50}], "max_tokens": 6, "stream": True}
    with router.stream("POST", "/v1/chat/completions", json=body) as answer:
        lines = [line.removeprefix("data: ") for line in answer.iter_lines() if line]
    assert lines.pop() == "[DONE]"
    words = "".join(json.loads(line)["choices"][0]["delta"]["content"] for line in lines).split()
    assert len(words) == 6
    assert external(decode) > before


def test_an_engines_refusal_reaches_the_client(router: httpx.Client) -> None:
    assert router.post("/v1/completions", json={"model": "other", "prompt": "a"}).status_code >= 400
