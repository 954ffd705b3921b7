"""What can go wrong at the API server, sorted by what a caller should do about it.

Source of the status codes: Kubernetes API conventions, "HTTP Status codes".
"""

from __future__ import annotations


class ApiError(Exception):
    """The API server refused a request or could not be reached.

    `code` is the HTTP status, 0 where there was no answer; `retry_after` are the seconds that the server asked to wait.
    """

    def __init__(self, message: str, *, code: int = 0, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after = retry_after


class RetryableError(ApiError):
    """Ask again later: overload, a restart, a broken connection, an expired token."""


class ConflictError(ApiError):
    """The object is not in the state that the request assumed: look again, then decide anew."""


class GoneError(ApiError):
    """The continuation of a list is too old: start it over."""


class NotFoundError(ApiError):
    """The object, its namespace or the whole resource does not exist."""


class TerminalError(ApiError):
    """The same request will be refused again: only a change by a human helps."""


class InvalidError(TerminalError):
    """The API server says that the object is wrong."""


class DeniedError(TerminalError):
    """Permissions, a quota or an admission policy forbid it."""


_BY_CODE: dict[int, type[ApiError]] = {
    400: InvalidError,
    403: DeniedError,
    404: NotFoundError,
    405: InvalidError,
    409: ConflictError,
    410: GoneError,
    413: InvalidError,
    415: InvalidError,
    422: InvalidError,
}


def error_for(code: int, message: str, retry_after: float | None = None) -> ApiError:
    """The error for an HTTP status; whatever is not known to be final can be retried."""
    return _BY_CODE.get(code, RetryableError)(message, code=code, retry_after=retry_after)
