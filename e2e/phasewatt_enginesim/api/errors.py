"""Errors in the JSON shape and with the status codes of vLLM's OpenAI server."""

from collections.abc import Iterable

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse


class ApiError(Exception):
    """A request the server refuses, or could not answer."""

    def __init__(self, status: int, kind: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": status}}


def bad_request(message: str, param: str | None = None) -> ApiError:
    """400: the client has to change the request."""
    return ApiError(400, "BadRequestError", message, param)


def unknown_model(name: str, served: Iterable[str]) -> ApiError:
    """404: the engine does not serve that model."""
    message = f"The model `{name}` does not exist. Valid aliases: {', '.join(served)}."
    return ApiError(404, "NotFoundError", message, "model")


def prompt_too_long(tokens: int, limit: int) -> ApiError:
    """400: the prompt leaves no room for a single output token."""
    return bad_request(
        f"This model's maximum context length is {limit} tokens. However, your prompt contains {tokens} input tokens,"
        " which exceeds this limit even without any output tokens. Please reduce the length of the input prompt."
        f" (parameter=input_tokens, value={tokens})",
        "input_tokens",
    )


def internal_error(message: str = "Internal server error") -> ApiError:
    """500: generation failed."""
    return ApiError(500, "InternalServerError", message)


async def respond_api_error(_: Request, error: Exception) -> JSONResponse:
    """The answer for an `ApiError`."""
    assert isinstance(error, ApiError)
    return JSONResponse(error.body, status_code=error.status)


async def respond_validation_error(_: Request, error: Exception) -> JSONResponse:
    """The answer for a body that does not fit its schema: the first problem names the field."""
    assert isinstance(error, ValidationError)
    problems = error.errors(include_url=False, include_context=False)
    field = ".".join(str(part) for part in problems[0]["loc"]) or None
    text = "; ".join(f"{'.'.join(str(part) for part in p['loc'])}: {p['msg']}" for p in problems)
    refusal = bad_request(text, field)
    return JSONResponse(refusal.body, status_code=refusal.status)
