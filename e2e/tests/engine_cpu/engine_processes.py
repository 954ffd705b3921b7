"""Real vLLM engines and the real router as processes of this machine, out of the environments that the images use."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from phasewatt_testbed.paths import REPO, cache_dir
from phasewatt_testbed.processes import Server, answers, free_ports, wait_until

START_SECONDS = 240.0
"""Three engines that start at once on two busy cores, each of which loads torch three times."""

COUNT_SECONDS = 30.0
"""Until the counters of a finished request are on /metrics; vLLM publishes them with the next engine step."""

NO_KV = {"do_remote_decode": True, "do_remote_prefill": False}
"""What a router sends to a prefill engine with its leg (vLLM, NixlConnector usage guide)."""


@dataclass(frozen=True)
class Engine:
    """A vLLM server; `url` is its OpenAI endpoint."""

    name: str
    server: Server
    url: str

    def complete(self, prompt: list[int] | str, max_tokens: int = 16, **more: Any) -> httpx.Response:
        """One greedy completion."""
        body = {"model": "tiny", "prompt": prompt, "max_tokens": max_tokens, "temperature": 0, **more}
        return httpx.post(f"{self.url}/v1/completions", json=body, timeout=120, trust_env=False)

    def text(self, prompt: list[int] | str, max_tokens: int = 16, **more: Any) -> str:
        """The text of one greedy completion that must succeed."""
        answer = self.complete(prompt, max_tokens, **more)
        assert answer.status_code == 200, f"{self.name}: {answer.text}\n{self.log_tail()}"
        return str(answer.json()["choices"][0]["text"])

    def metrics(self) -> str:
        """What Prometheus would scrape."""
        return httpx.get(f"{self.url}/metrics", timeout=30, trust_env=False).raise_for_status().text

    def log_tail(self) -> str:
        """The end of the engine's log, for messages."""
        return self.server.log.read_text(errors="replace")[-4000:]


def make_engine(name: str, environment: Path, folder: Path, role: str | None) -> Engine:
    """An engine that is not started yet.

    Args:
        name: what messages and the log file call it.
        environment: made by images/engine-cpu/make-env.sh.
        folder: for its log.
        role: NIXL's `kv_producer` or `kv_consumer`; None for an engine without a KV connector.
    """
    http_port, side_port = free_ports(2)
    transfer = {"kv_connector": "NixlConnector", "kv_role": role, "kv_buffer_device": "cpu"}
    argv = [
        "env",
        f"VLLM_NIXL_SIDE_CHANNEL_PORT={side_port}",
        "VLLM_NIXL_SIDE_CHANNEL_HOST=127.0.0.1",
        environment / "bin" / "vllm",
        "serve",
        environment / "models" / "tiny",
        *("--served-model-name", "tiny", "--host", "127.0.0.1", "--port", str(http_port), "--max-model-len", "4096"),
        *(("--kv-transfer-config", json.dumps(transfer)) if role else ()),
    ]
    url = f"http://127.0.0.1:{http_port}"
    log = folder / f"{name}.log"
    return Engine(
        name, Server(name, argv, log=log, ready=lambda: answers(f"{url}/health"), start_seconds=START_SECONDS), url
    )


def make_router(folder: Path, prefill: Engine, decode: Engine) -> tuple[Engine, str]:
    """The router of a prefill and a decode engine, not started yet, and the URL of its metrics."""
    environment = cache_dir() / "router-env"
    subprocess.run(
        ["uv", "sync", "--quiet", "--frozen", "--project", REPO / "images" / "router"],
        env=os.environ | {"UV_PROJECT_ENVIRONMENT": str(environment)},
        check=True,
    )
    http_port, metrics_port = free_ports(2)
    argv = [
        environment / "bin" / "vllm-router",
        *("--host", "127.0.0.1", "--port", str(http_port)),
        *("--vllm-pd-disaggregation", "--prefill", prefill.url, "--decode", decode.url, "--policy", "round_robin"),
        *("--prometheus-host", "127.0.0.1", "--prometheus-port", str(metrics_port)),
        *("--worker-startup-check-interval", "1", "--health-check-interval-secs", "3"),
    ]
    url = f"http://127.0.0.1:{http_port}"
    server = Server("router", argv, log=folder / "router.log", ready=lambda: answers(f"{url}/readiness"))
    return Engine("router", server, url), f"http://127.0.0.1:{metrics_port}/metrics"


def prefill_then_decode(prefill: Engine, decode: Engine, prompt: list[int], **overrides: Any) -> httpx.Response:
    """Both legs of a disaggregated request, as the router sends them; `overrides` spoil what the second one is told."""
    first = prefill.complete(prompt, 1, kv_transfer_params=NO_KV)
    assert first.status_code == 200, f"{first.text}\n{prefill.log_tail()}"
    return decode.complete(prompt, kv_transfer_params=first.json()["kv_transfer_params"] | overrides)


__all__ = [
    "COUNT_SECONDS",
    "Engine",
    "make_engine",
    "make_router",
    "prefill_then_decode",
    "wait_until",
]
