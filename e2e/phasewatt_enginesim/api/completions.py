"""`/v1/completions` and `/v1/chat/completions`, streaming and not."""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Coroutine
from contextlib import aclosing
from typing import Any, Protocol, TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from phasewatt_enginesim.api.errors import ApiError
from phasewatt_enginesim.api.generation import Delta, Generation
from phasewatt_enginesim.api.protocol import ChatRequest, CompletionRequest, GenerationRequest, StreamOptions

CLIENT_CLOSED_REQUEST = 499

T = TypeVar("T")


class Shape(Protocol):
    """How one endpoint words its answers."""

    id_prefix: str
    answer_object: str
    chunk_object: str

    def choice(self, index: int, text: str, delta: Delta) -> dict[str, Any]:
        """A whole choice."""

    def chunk(self, delta: Delta) -> dict[str, Any]:
        """A choice of a stream's chunk."""

    def opening(self, index: int) -> dict[str, Any] | None:
        """A choice sent before any text, if the endpoint has one."""


class CompletionShape:
    """Answers of `/v1/completions`."""

    id_prefix = "cmpl"
    answer_object = chunk_object = "text_completion"

    def choice(self, index: int, text: str, delta: Delta) -> dict[str, Any]:
        """A whole choice."""
        return {
            "index": index,
            "text": text,
            "logprobs": None,
            "finish_reason": delta.finish.value if delta.finish else None,
            "stop_reason": delta.stop_reason,
        }

    def chunk(self, delta: Delta) -> dict[str, Any]:
        """A choice of a stream's chunk."""
        return self.choice(delta.prompt_index, delta.text, delta)

    def opening(self, index: int) -> None:
        """Completions open with text."""


class ChatShape:
    """Answers of `/v1/chat/completions`."""

    id_prefix = "chatcmpl"
    answer_object = "chat.completion"
    chunk_object = "chat.completion.chunk"

    def choice(self, index: int, text: str, delta: Delta) -> dict[str, Any]:
        """A whole choice."""
        return {"message": {"role": "assistant", "content": text}, **self._rest(index, delta)}

    def chunk(self, delta: Delta) -> dict[str, Any]:
        """A choice of a stream's chunk."""
        return {"delta": {"content": delta.text}, **self._rest(delta.prompt_index, delta)}

    def opening(self, index: int) -> dict[str, Any]:
        """Chat opens with the role."""
        return {"delta": {"role": "assistant", "content": ""}, **self._rest(index, Delta(index, ""))}

    def _rest(self, index: int, delta: Delta) -> dict[str, Any]:
        return {
            "index": index,
            "logprobs": None,
            "finish_reason": delta.finish.value if delta.finish else None,
            "stop_reason": delta.stop_reason,
        }


async def create_completion(http: Request) -> Response:
    """`POST /v1/completions`."""
    body = CompletionRequest.model_validate_json(await http.body())
    generation = Generation(http.app.state.engine, body, body.prompts, body.token_limit)
    return await answer(http, body, generation, CompletionShape())


async def create_chat_completion(http: Request) -> Response:
    """`POST /v1/chat/completions`."""
    body = ChatRequest.model_validate_json(await http.body())
    generation = Generation(http.app.state.engine, body, [body.prompt], body.token_limit)
    return await answer(http, body, generation, ChatShape())


async def answer(http: Request, body: GenerationRequest, generation: Generation, shape: Shape) -> Response:
    """Run a generation and word its answer."""
    envelope = {
        "id": f"{shape.id_prefix}-{http.headers.get('x-request-id') or uuid.uuid4().hex}",
        "created": int(time.time()),
        "model": generation.model,
    }
    if body.stream:
        options = body.stream_options or StreamOptions()
        events = stream(generation, shape, {**envelope, "object": shape.chunk_object}, options)
        return StreamingResponse(events, media_type="text/event-stream")
    finished = await unless_disconnected(http, collect(generation, shape))
    if finished is None:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    choices, params = finished
    return JSONResponse(
        {
            **envelope,
            "object": shape.answer_object,
            "choices": choices,
            "usage": generation.usage(),
            "kv_transfer_params": params,
        }
    )


async def collect(generation: Generation, shape: Shape) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """All choices of a generation, and the first prompt's `kv_transfer_params`."""
    texts = [""] * len(generation.requests)
    last: dict[int, Delta] = {}
    async with aclosing(generation.deltas()) as deltas:
        async for delta in deltas:
            texts[delta.prompt_index] += delta.text
            last[delta.prompt_index] = delta
    choices = [shape.choice(index, text, last[index]) for index, text in enumerate(texts)]
    return choices, last[0].kv_transfer_params


async def stream(
    generation: Generation, shape: Shape, envelope: dict[str, Any], options: StreamOptions
) -> AsyncIterator[str]:
    """Server-sent events of a generation, in the order and wording of vLLM."""
    opened: set[int] = set()
    try:
        async with aclosing(generation.deltas()) as deltas:
            async for delta in deltas:
                usage = {"usage": generation.usage()} if options.continuous_usage_stats else {}
                if delta.prompt_index not in opened:
                    opened.add(delta.prompt_index)
                    if (opening := shape.opening(delta.prompt_index)) is not None:
                        yield event({**envelope, "choices": [opening], **usage})
                yield event({**envelope, "choices": [shape.chunk(delta)], **usage})
        if options.include_usage:
            yield event({**envelope, "choices": [], "usage": generation.usage()})
    except ApiError as error:
        yield event(error.body)
    yield "data: [DONE]\n\n"


def event(payload: dict[str, Any]) -> str:
    """One server-sent event."""
    return f"data: {json.dumps(payload)}\n\n"


async def unless_disconnected(http: Request, work: Coroutine[Any, Any, T]) -> T | None:
    """The result of `work`, or None after its cancellation because the client went away."""
    task = asyncio.create_task(work)
    watcher = asyncio.create_task(disconnection(http))
    try:
        await asyncio.wait({task, watcher}, return_when=asyncio.FIRST_COMPLETED)
        return await task if task.done() else None
    finally:
        task.cancel()
        watcher.cancel()
        await asyncio.gather(task, watcher, return_exceptions=True)


async def disconnection(http: Request) -> None:
    """Return when the client has closed its connection."""
    while (await http.receive())["type"] != "http.disconnect":
        pass
