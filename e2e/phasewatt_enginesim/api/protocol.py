"""The request bodies that the simulator understands; other OpenAI and vLLM fields are accepted and change nothing."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from phasewatt_enginesim.api.errors import bad_request

TokenIds = list[Annotated[int, Field(ge=0)]]


class StreamOptions(BaseModel):
    """What a stream carries besides text."""

    include_usage: bool = False
    continuous_usage_stats: bool = False


class GenerationRequest(BaseModel):
    """What completions and chat have in common."""

    model_config = ConfigDict(extra="allow")

    model: str | None = None
    n: int = 1
    stream: bool = False
    stream_options: StreamOptions | None = None
    stop: str | list[str] | None = None
    ignore_eos: bool = False
    min_tokens: Annotated[int, Field(ge=0)] = 0
    kv_transfer_params: dict[str, Any] | None = None

    @property
    def stops(self) -> list[str]:
        """The stop strings as a list."""
        return [self.stop] if isinstance(self.stop, str) else self.stop or []

    def check(self) -> None:
        """Refuse combinations that vLLM refuses, and what is not simulated.

        Raises:
            ApiError: with what to change.
        """
        if self.stream_options and not self.stream:
            raise bad_request("Stream options can only be defined when `stream=True`.", "stream_options")
        if self.n != 1:
            raise bad_request("engine-sim answers with one choice per prompt; set n to 1.", "n")


class CompletionRequest(GenerationRequest):
    """`POST /v1/completions`: one prompt or several, as text or token ids."""

    prompt: str | TokenIds | list[str] | list[TokenIds] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    echo: bool = False

    @property
    def prompts(self) -> list[str | list[int]]:
        """The prompts, one by one.

        Raises:
            ApiError: there is none.
        """
        prompt = self.prompt
        if not prompt:
            raise bad_request("Either prompt or prompt_embeds must be provided and non-empty.", "prompt")
        if isinstance(prompt, str):
            return [prompt]
        if isinstance(prompt[0], int):
            return [prompt]
        return list(prompt)

    @property
    def token_limit(self) -> int:
        """Output tokens asked for; OpenAI's default for completions is 16."""
        return self.max_tokens or 16


class ChatMessage(BaseModel):
    """One message of a conversation; content parts other than text are ignored."""

    model_config = ConfigDict(extra="allow")

    role: str
    content: str | list[dict[str, Any]] | None = None

    @property
    def text(self) -> str:
        """The message's text."""
        if isinstance(self.content, list):
            return "".join(str(part.get("text", "")) for part in self.content)
        return self.content or ""


class ChatRequest(GenerationRequest):
    """`POST /v1/chat/completions`."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None

    @property
    def prompt(self) -> str:
        """The conversation as one prompt."""
        lines = [f"{message.role}: {message.text}" for message in self.messages]
        return "\n".join([*lines, "assistant:"])

    @property
    def token_limit(self) -> int | None:
        """Output tokens asked for; None leaves the rest of the context."""
        return self.max_completion_tokens or self.max_tokens
