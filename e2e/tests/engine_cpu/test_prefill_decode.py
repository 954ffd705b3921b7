"""Real vLLM and NIXL without a cluster: the KV cache moves, the text stays the same, and failures are seen."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from phasewatt_suite.serving import total

from .conftest import Engines, Router
from .engine_processes import COUNT_SECONDS, Engine, prefill_then_decode, wait_until

pytestmark = pytest.mark.e2e

BLOCK_TOKENS = 128
"""Tokens per KV block of vLLM's CPU backend (vllm/platforms/cpu.py)."""

BLOCK_BYTES = BLOCK_TOKENS * 2 * 4 * 2 * 64 * 4
"""Keys and values, 4 layers, 2 KV heads of 64 float32 each: the tiny model of images/engine-cpu/make_model.py."""

SOURCES = ("local_compute", "local_cache_hit", "external_kv_transfer")

draws = random.Random(20480)


def prompt_of(tokens: int) -> list[int]:
    """A prompt that no earlier test has sent; the first two ids of the vocabulary are special."""
    return [draws.randrange(2, 2048) for _ in range(tokens)]


@dataclass
class Counters:
    """What an engine has counted since this object was made."""

    engine: Engine
    before: str = field(init=False)

    def __post_init__(self) -> None:
        self.before = self.engine.metrics()

    def delta(self, name: str, **labels: str) -> int:
        return int(total(self.engine.metrics(), name, **labels) - total(self.before, name, **labels))

    def prompt_tokens_by_source(self) -> dict[str, int]:
        return {s: n for s in SOURCES if (n := self.delta("vllm:prompt_tokens_by_source_total", source=s))}

    def expect(self, read: Callable[[], object], expected: object) -> None:
        """Wait until a reading is as expected: vLLM publishes a step's counters with the step that follows it."""
        try:
            wait_until(lambda: read() == expected, COUNT_SECONDS, "the counters differ")
        finally:
            assert read() == expected


@pytest.mark.parametrize("tokens", [5, BLOCK_TOKENS - 1, BLOCK_TOKENS, BLOCK_TOKENS + 1, 512, 700])
def test_decode_continues_as_one_engine_would_and_every_prompt_token_was_transferred(
    engines: Engines, tokens: int
) -> None:
    prompt = prompt_of(tokens)
    decode = Counters(engines.decode)
    answer = prefill_then_decode(engines.prefill, engines.decode, prompt)
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["text"] == engines.colocated.text(prompt)
    decode.expect(decode.prompt_tokens_by_source, {"external_kv_transfer": tokens})
    blocks = -(-tokens // BLOCK_TOKENS)
    decode.expect(lambda: decode.delta("vllm:nixl_bytes_transferred_sum"), blocks * BLOCK_BYTES)
    assert decode.delta("vllm:nixl_num_failed_transfers_total") == 0


def test_the_text_depends_on_every_block_of_the_prompt(engines: Engines) -> None:
    base = prompt_of(4 * BLOCK_TOKENS + 1)
    prompts = [base]
    for start in range(0, 4 * BLOCK_TOKENS, BLOCK_TOKENS):
        prompts.append(base[:start] + prompt_of(BLOCK_TOKENS) + base[start + BLOCK_TOKENS :])
    texts = [engines.colocated.text(prompt) for prompt in prompts]
    for one, other in itertools.combinations(texts, 2):
        assert one != other, "equal texts of different prompts: the equality with decode would prove nothing"


def test_a_repeated_prompt_transfers_only_what_decode_has_not_cached(engines: Engines) -> None:
    prompt = prompt_of(4 * BLOCK_TOKENS + 88)
    first = prefill_then_decode(engines.prefill, engines.decode, prompt)
    prefill, decode = Counters(engines.prefill), Counters(engines.decode)
    again = prefill_then_decode(engines.prefill, engines.decode, prompt)
    assert again.json()["choices"][0]["text"] == first.json()["choices"][0]["text"]
    decode.expect(decode.prompt_tokens_by_source, {"local_cache_hit": 4 * BLOCK_TOKENS, "external_kv_transfer": 88})
    prefill.expect(prefill.prompt_tokens_by_source, {"local_cache_hit": 4 * BLOCK_TOKENS, "local_compute": 88})


def test_a_peer_that_cannot_be_reached_fails_the_request_and_is_counted(engines: Engines) -> None:
    decode = Counters(engines.decode)
    nobody = {"remote_host": "127.0.0.1", "remote_port": 1, "remote_engine_id": "no-such-engine"}
    answer = prefill_then_decode(engines.prefill, engines.decode, prompt_of(300), **nobody)
    assert answer.status_code == 500
    decode.expect(lambda: decode.delta("vllm:nixl_num_failed_transfers_total") > 0, True)
    assert decode.prompt_tokens_by_source() == {}
    # A trap for whoever proves KV movement: the lookup counts as a hit although nothing arrived.
    assert decode.delta("vllm:external_prefix_cache_hits_total") == 300


def test_an_engine_without_a_connector_recomputes_in_silence(engines: Engines) -> None:
    prompt = prompt_of(300)
    colocated = Counters(engines.colocated)
    answer = prefill_then_decode(engines.prefill, engines.colocated, prompt)
    assert answer.status_code == 200
    colocated.expect(colocated.prompt_tokens_by_source, {"local_compute": 300})
    log = engines.colocated.server.log.read_text(errors="replace")
    assert "Got kv_transfer_params, but no KVConnector found" in log


def test_the_router_takes_a_request_through_both_engines(engines: Engines, router: Router) -> None:
    prompt = prompt_of(3 * BLOCK_TOKENS)
    prefill, decode = Counters(engines.prefill), Counters(engines.decode)
    assert router.endpoint.text(prompt) == engines.colocated.text(prompt)
    prefill.expect(prefill.prompt_tokens_by_source, {"local_compute": len(prompt)})
    decode.expect(decode.prompt_tokens_by_source, {"external_kv_transfer": len(prompt)})
