"""One request on its way through the engine."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple


class Status(Enum):
    """Where a request is; a preempted one waits again."""

    WAITING = "waiting"
    FETCHING = "fetching"
    RUNNING = "running"
    FINISHED = "finished"


class FinishReason(Enum):
    """Why a request ended, with vLLM's words."""

    STOP = "stop"
    LENGTH = "length"
    ABORT = "abort"
    ERROR = "error"
    REPETITION = "repetition"


class Output(NamedTuple):
    """What the engine tells the front end: tokens up to `tokens` exist; `finish` closes the request."""

    tokens: int
    finish: FinishReason | None = None
    kv_transfer_params: dict[str, Any] | None = None


@dataclass(slots=True, eq=False)
class Request:
    """A prompt of `prompt_tokens` tokens and the state of its answer. Times are simulated seconds."""

    request_id: str
    prompt_tokens: int
    seed: bytes
    max_tokens: int
    natural_length: int | None
    """Output tokens after which the answer ends by itself; None under `ignore_eos`."""
    emit: Callable[[Output], None]
    """Where outputs go; called from the engine's loop, must not block."""
    kv_transfer_params: dict[str, Any] | None = None
    arrived: float = 0.0
    status: Status = Status.WAITING
    computed_tokens: int = 0
    output_tokens: int = 0
    external_tokens: int = 0
    """Prompt tokens whose KV the first scheduling took from another engine."""
    remote_tried: bool = False
    preemptions: int = 0
    first_scheduled: float | None = None
    first_token: float | None = None
    last_token: float | None = None

    @property
    def total_tokens(self) -> int:
        """Prompt and generated tokens."""
        return self.prompt_tokens + self.output_tokens

    @property
    def wants_remote_prefill(self) -> bool:
        """Whether the prompt's KV is to be pulled from a prefill engine and was not tried yet."""
        params = self.kv_transfer_params
        return bool(params and params.get("do_remote_prefill")) and not self.remote_tried

    @property
    def is_remote_decode(self) -> bool:
        """Whether another engine will decode, so that the prompt's blocks must outlive this request."""
        return bool(self.kv_transfer_params and self.kv_transfer_params.get("do_remote_decode"))

    def finish_after_token(self) -> FinishReason | None:
        """Whether the answer ends with the latest token, and why."""
        if self.natural_length is not None and self.output_tokens >= self.natural_length:
            return FinishReason.STOP
        return FinishReason.LENGTH if self.output_tokens >= self.max_tokens else None
