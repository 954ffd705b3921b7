"""From a checked HTTP request to engine requests, and from engine outputs to text."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from functools import partial
from typing import Any, NamedTuple

from phasewatt_enginesim.api.errors import internal_error, prompt_too_long, unknown_model
from phasewatt_enginesim.api.protocol import GenerationRequest
from phasewatt_enginesim.engine.core import Engine
from phasewatt_enginesim.engine.request import FinishReason, Output, Request
from phasewatt_enginesim.text import StopStrings, count_tokens, natural_length, prompt_seed, token_text

Prompt = str | list[int]


class Delta(NamedTuple):
    """New text of one prompt's answer; `finish` comes with the last."""

    prompt_index: int
    text: str
    finish: FinishReason | None = None
    stop_reason: str | None = None
    kv_transfer_params: dict[str, Any] | None = None


class Generation:
    """The answers to one HTTP request: one engine request per prompt.

    Raises:
        ApiError: unknown model, a prompt that does not fit, or an engine that has failed.
    """

    def __init__(self, engine: Engine, body: GenerationRequest, prompts: Sequence[Prompt], limit: int | None) -> None:
        self._engine = engine
        self._outputs: asyncio.Queue[tuple[int, Output]] = asyncio.Queue()
        self.requests = [self._request(index, prompt, body, limit) for index, prompt in enumerate(prompts)]
        self._stops = [StopStrings(body.stops) for _ in prompts]
        self._sent_tokens = [0] * len(prompts)
        try:
            self._check(body)
        except Exception:
            for request in self.requests:
                engine.reject(request)
            raise
        self.model = body.model or engine.config.served_names[0]

    def usage(self) -> dict[str, int]:
        """OpenAI's usage object for what was generated so far."""
        prompt = sum(request.prompt_tokens for request in self.requests)
        output = sum(self._sent_tokens)
        return {"prompt_tokens": prompt, "total_tokens": prompt + output, "completion_tokens": output}

    async def deltas(self) -> AsyncGenerator[Delta, None]:
        """All prompts' text as it appears; whoever stops listening aborts what is left.

        Raises:
            ApiError: the engine failed a request (500).
        """
        unfinished = len(self.requests)
        try:
            for request in self.requests:
                self._engine.submit(request)
            while unfinished:
                index, output = await self._outputs.get()
                if output.finish is FinishReason.ERROR:
                    raise internal_error()
                if self._stops[index].matched is not None:
                    continue
                delta = self._delta(index, output)
                unfinished -= delta.finish is not None
                if delta.text or delta.finish:
                    yield delta
        finally:
            for request in self.requests:
                self._engine.abort(request)

    def _request(self, index: int, prompt: Prompt, body: GenerationRequest, limit: int | None) -> Request:
        seed = prompt_seed(self._engine.config.model_reference, prompt)
        tokens = count_tokens(prompt)
        room = self._engine.config.max_model_len - tokens
        return Request(
            request_id=self._engine.new_request_id(),
            prompt_tokens=tokens,
            seed=seed,
            max_tokens=room if limit is None else min(limit, room),
            natural_length=None if body.ignore_eos else max(natural_length(seed), body.min_tokens),
            emit=lambda output: self._outputs.put_nowait((index, output)),
            kv_transfer_params=dict(body.kv_transfer_params) if body.kv_transfer_params else None,
        )

    def _check(self, body: GenerationRequest) -> None:
        config = self._engine.config
        if body.model and body.model not in config.served_names:
            raise unknown_model(body.model, config.served_names)
        body.check()
        for request in self.requests:
            if request.prompt_tokens >= config.max_model_len:
                raise prompt_too_long(request.prompt_tokens, config.max_model_len)
        if self._engine.is_dead:
            raise internal_error("EngineCore encountered an issue. See stack trace (above) for the root cause.")

    def _delta(self, index: int, output: Output) -> Delta:
        request, stops = self.requests[index], self._stops[index]
        token = partial(token_text, request.seed)
        text = ""
        while self._sent_tokens[index] < output.tokens and stops.matched is None:
            text += stops.feed(token(self._sent_tokens[index]))
            self._sent_tokens[index] += 1
        if stops.matched is not None:
            self._engine.stop_text(request)
            return Delta(index, text, FinishReason.STOP, stops.matched, output.kv_transfer_params)
        if output.finish is None:
            return Delta(index, text)
        return Delta(index, text + stops.flush(), output.finish, None, output.kv_transfer_params)
