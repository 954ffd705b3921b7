"""Runs the real simulated server as a process, and talks to it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
from prometheus_client.parser import text_string_to_metric_families

MODEL = "meta-llama/Llama-3.2-3B-Instruct"
DEADLINE_S = 60.0
LISTENING = re.compile(r"Listening on http://(\S+):(\d+)")

T = TypeVar("T")


def until(what: str, look: Callable[[], T | None], deadline_s: float = DEADLINE_S) -> T:
    """The first truthy answer of `look`; fails the test when it does not come before the deadline."""
    end = time.monotonic() + deadline_s
    while not (found := look()):
        if time.monotonic() > end:
            raise AssertionError(f"waited {deadline_s} s for {what}")
        time.sleep(0.01)
    return found


@dataclass
class SimServer:
    """One simulated engine process."""

    process: subprocess.Popen[bytes]
    log_file: Path
    http: httpx.Client

    @property
    def log(self) -> str:
        """All it has logged."""
        return self.log_file.read_text()

    def complete(self, prompt: str | list[int], max_tokens: int = 8, **more: Any) -> httpx.Response:
        """`POST /v1/completions`."""
        body = {"model": MODEL, "prompt": prompt, "max_tokens": max_tokens, **more}
        return self.http.post("/v1/completions", json=body)

    def text(self, prompt: str | list[int], max_tokens: int = 8, **more: Any) -> str:
        """The text of a completion that must succeed."""
        answer = self.complete(prompt, max_tokens, **more)
        assert answer.status_code == 200, answer.text
        return answer.json()["choices"][0]["text"]

    def events(self, path: str, body: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The server-sent events of a streamed answer, without the closing mark, which must be there."""
        with self.http.stream("POST", path, json={"model": MODEL, "stream": True, **body}) as answer:
            assert answer.status_code == 200, answer.read()
            assert answer.headers["content-type"].startswith("text/event-stream")
            lines = [line.removeprefix("data: ") for line in answer.iter_lines() if line]
        assert lines.pop() == "[DONE]"
        return [json.loads(line) for line in lines]

    def metric(self, name: str, **labels: str) -> float:
        """The value of one sample; the labels given must fit exactly one."""
        found = [
            sample.value
            for family in text_string_to_metric_families(self.http.get("/metrics").text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]
        assert len(found) == 1, f"{name}{labels}: {len(found)} samples"
        return found[0]

    def faults(self, **changes: Any) -> dict[str, Any]:
        """Change the faults in force."""
        return self.http.post("/sim/faults", json=changes).raise_for_status().json()

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.process.send_signal(signal.SIGTERM)

    def exit_code(self) -> int:
        """Wait for the end."""
        return self.process.wait(DEADLINE_S)


def transfer_config(role: str, **more: Any) -> str:
    """A `--kv-transfer-config` for NIXL."""
    return json.dumps({"kv_connector": "NixlConnector", "kv_role": f"kv_{role}", **more})


@contextmanager
def launched(folder: Path, *flags: str, model: str = MODEL, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that may never listen; its log is `folder/log`. It is killed at the end if it still runs."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-c", "from phasewatt_enginesim.main import main; main()", "serve", model]
    command += ["--host", "127.0.0.1", "--port", "0", *flags]
    environment = {
        **os.environ,
        "VLLM_NIXL_SIDE_CHANNEL_HOST": "127.0.0.1",
        "VLLM_NIXL_SIDE_CHANNEL_PORT": "0",
        "PHASEWATT_SIM_TIME_SCALE": "20",
        **environment,
    }
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stderr=log, env=environment) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def running(folder: Path, *flags: str, model: str = MODEL, **environment: str) -> Iterator[SimServer]:
    """A simulated engine that serves; simulated time runs 20 times faster unless the environment says otherwise."""
    with launched(folder, *flags, model=model, **environment) as process:
        expected = 2 if "--kv-transfer-config" in flags else 1

        def ports() -> list[tuple[str, str]] | None:
            log = (folder / "log").read_text()
            assert process.poll() is None, log
            found = LISTENING.findall(log)
            return found if len(found) == expected else None

        host, port = until("the server to listen", ports)[-1]
        with httpx.Client(base_url=f"http://{host}:{port}", timeout=DEADLINE_S) as http:
            until("health", lambda: healthy(http))
            yield SimServer(process, folder / "log", http)


def healthy(http: httpx.Client) -> bool:
    """Whether the server answers and says that it is well."""
    try:
        return http.get("/health").status_code == 200
    except httpx.TransportError:
        return False


def prefill_leg(server: SimServer, prompt: str | list[int]) -> dict[str, Any]:
    """What a router does first: one token on the prefill engine; returns the `kv_transfer_params` for decode."""
    ask = {"do_remote_decode": True, "do_remote_prefill": False, "remote_engine_id": None, "remote_block_ids": None}
    answer = server.complete(prompt, 1, kv_transfer_params=ask)
    assert answer.status_code == 200, answer.text
    return answer.json()["kv_transfer_params"]
