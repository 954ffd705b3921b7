"""Durations and quantities of the API as plain numbers, parsed by pydantic's own types."""

from __future__ import annotations

from datetime import timedelta

from pydantic import ByteSize, TypeAdapter

_DURATION = TypeAdapter(timedelta)
_BYTES = TypeAdapter(ByteSize)


def seconds(duration: str) -> int:
    """`1h30m` as whole seconds. The API's durations are the time part of an ISO 8601 duration, in lower case.

    Raises:
        pydantic.ValidationError: not a duration.
    """
    return int(_DURATION.validate_python(f"PT{duration.upper()}").total_seconds())


def to_bytes(quantity: str) -> int:
    """`28Gi` or `28G` as bytes: pydantic knows the same units, with a `B` at the end.

    Raises:
        pydantic.ValidationError: not an amount of bytes.
    """
    return int(_BYTES.validate_python(f"{quantity}B"))
