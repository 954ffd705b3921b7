"""The HTTP API of one colocated engine, as a client of vLLM would use it."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from .server_process import MODEL, SimServer, until


def test_completion_has_vllms_shape_and_counts(colocated: SimServer) -> None:
    answer = colocated.complete([7] * 100, 12).json()
    assert answer["object"] == "text_completion"
    assert answer["id"].startswith("cmpl-")
    assert answer["model"] == MODEL
    assert answer["kv_transfer_params"] is None
    assert answer["usage"] == {"prompt_tokens": 100, "completion_tokens": 12, "total_tokens": 112}
    (choice,) = answer["choices"]
    assert choice["finish_reason"] == "length"
    assert len(choice["text"].split()) == 12


def test_equal_prompts_give_equal_text_and_any_token_matters(colocated: SimServer) -> None:
    prompt = list(range(500))
    text = colocated.text(prompt)
    assert text == colocated.text(prompt)
    assert text != colocated.text([1, *prompt[1:]])
    assert text != colocated.text([*prompt[:-1], 1])


def test_more_tokens_only_continue_the_text(colocated: SimServer) -> None:
    assert colocated.text("hello", 20).startswith(colocated.text("hello", 5))


def test_several_prompts_give_several_choices(colocated: SimServer) -> None:
    answer = colocated.complete(["one", "two"], 4).json()
    assert [choice["index"] for choice in answer["choices"]] == [0, 1]
    assert [choice["text"] for choice in answer["choices"]] == [colocated.text("one", 4), colocated.text("two", 4)]
    assert answer["usage"]["completion_tokens"] == 8


def test_stream_equals_the_whole_answer_and_ends_with_usage(colocated: SimServer) -> None:
    body = {"prompt": "stream me", "max_tokens": 6, "stream_options": {"include_usage": True}}
    events = colocated.events("/v1/completions", body)
    usage = events.pop()
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == 6
    assert "".join(event["choices"][0]["text"] for event in events) == colocated.text("stream me", 6)
    assert [event["choices"][0]["finish_reason"] for event in events] == [None] * (len(events) - 1) + ["length"]


def test_continuous_usage_counts_up(colocated: SimServer) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    events = colocated.events("/v1/completions", {"prompt": "a", "max_tokens": 5, "stream_options": options})
    counts = [event["usage"]["completion_tokens"] for event in events]
    assert counts == sorted(counts)
    assert counts[-1] == 5


def test_chat_whole_and_streamed(colocated: SimServer) -> None:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "max_completion_tokens": 5}
    whole = colocated.http.post("/v1/chat/completions", json=body).json()
    assert whole["object"] == "chat.completion"
    message = whole["choices"][0]["message"]
    assert message["role"] == "assistant"
    events = colocated.events("/v1/chat/completions", body)
    assert events[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert {event["object"] for event in events} == {"chat.completion.chunk"}
    assert "".join(event["choices"][0]["delta"]["content"] for event in events) == message["content"]


def test_an_answer_ends_by_itself_unless_told_to_ignore_it(colocated: SimServer) -> None:
    free = colocated.complete("how long", 2000).json()
    assert free["choices"][0]["finish_reason"] == "stop"
    assert free["usage"]["completion_tokens"] < 2000
    forced = colocated.complete("how long", 400, ignore_eos=True).json()
    assert forced["choices"][0]["finish_reason"] == "length"
    assert forced["usage"]["completion_tokens"] == 400
    longer = colocated.complete("how long", 2000, min_tokens=600).json()
    assert longer["usage"]["completion_tokens"] == 600


def test_stop_string_cuts_the_text_before_it(colocated: SimServer) -> None:
    whole = colocated.text("stop here", 30)
    stop = whole[40:47]
    choice = colocated.complete("stop here", 30, stop=[stop]).json()["choices"][0]
    assert choice["text"] == whole[: whole.index(stop)]
    assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", stop)


@pytest.mark.parametrize(
    ("body", "status", "kind", "words"),
    [
        ({"model": "other", "prompt": "a"}, 404, "NotFoundError", "`other` does not exist"),
        ({"prompt": ""}, 400, "BadRequestError", "non-empty"),
        ({}, 400, "BadRequestError", "non-empty"),
        (
            {"prompt": [1] * 8193},
            400,
            "BadRequestError",
            "maximum context length is 8192 tokens. However, your prompt contains 8193",
        ),
        ({"prompt": "a", "max_tokens": "many"}, 400, "BadRequestError", "max_tokens"),
        ({"prompt": "a", "max_tokens": 0}, 400, "BadRequestError", "max_tokens"),
        ({"prompt": "a", "stream_options": {"include_usage": True}}, 400, "BadRequestError", "stream=True"),
        ({"prompt": "a", "n": 2}, 400, "BadRequestError", "set n to 1"),
    ],
)
def test_bad_requests_are_refused_in_openais_shape(
    colocated: SimServer, body: dict[str, object], status: int, kind: str, words: str
) -> None:
    answer = colocated.http.post("/v1/completions", json={"model": MODEL, **body})
    assert answer.status_code == status
    error = answer.json()["error"]
    assert (error["type"], error["code"]) == (kind, status)
    assert words in error["message"]


def test_a_body_that_is_no_json_is_a_bad_request(colocated: SimServer) -> None:
    assert colocated.http.post("/v1/completions", content=b"{").status_code == 400


def test_output_is_limited_to_the_context_that_is_left(colocated: SimServer) -> None:
    answer = colocated.complete([1] * 8190, 100, ignore_eos=True).json()
    assert answer["usage"]["completion_tokens"] == 2


def test_it_says_that_it_is_a_simulator(colocated: SimServer) -> None:
    assert "simulated" in colocated.http.get("/version").json()["version"]
    assert colocated.metric("phasewatt_engine_simulated") == 1
    assert "SIMULATED ENGINE" in colocated.log


def test_models_health_ping_load(colocated: SimServer) -> None:
    (card,) = colocated.http.get("/v1/models").json()["data"]
    assert (card["id"], card["max_model_len"], card["owned_by"]) == (MODEL, 8192, "vllm")
    assert colocated.http.get("/health").status_code == 200
    assert colocated.http.post("/ping").status_code == 200
    assert colocated.http.get("/load").json() == {"server_load": 0}


def test_metrics_count_what_was_served(colocated: SimServer) -> None:
    names = ["vllm:prompt_tokens_total", "vllm:generation_tokens_total", "vllm:e2e_request_latency_seconds_count"]
    before = [colocated.metric(name) for name in names]
    colocated.complete([3] * 300, 10)
    assert [colocated.metric(name) - was for name, was in zip(names, before, strict=True)] == [300, 10, 1]
    assert colocated.metric("vllm:num_requests_running") == 0
    assert colocated.metric("vllm:kv_cache_usage_perc") == 0


async def test_a_client_that_goes_away_is_aborted(colocated: SimServer) -> None:
    before = colocated.metric("vllm:request_success_total", finished_reason="abort")
    colocated.faults(hang=True)
    try:
        for stream in (True, False):
            body = {"model": MODEL, "prompt": "never", "stream": stream}
            async with httpx.AsyncClient(base_url=colocated.http.base_url, timeout=60) as client:
                request = asyncio.create_task(client.post("/v1/completions", json=body))
                await asyncio.to_thread(until, "the request", lambda: load(colocated) == 1)
                request.cancel()
                await asyncio.gather(request, return_exceptions=True)
            await asyncio.to_thread(until, "the abort", lambda: load(colocated) == 0)
    finally:
        colocated.faults(hang=False)
    assert colocated.metric("vllm:request_success_total", finished_reason="abort") == before + 2


def load(server: SimServer) -> int:
    return server.http.get("/load").json()["server_load"]
