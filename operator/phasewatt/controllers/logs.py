"""Structured logs: one JSON line per event, with the object's namespace and name as fields."""

from __future__ import annotations

import logging
import sys
from typing import Literal

from pythonjsonlogger.json import JsonFormatter

Format = Literal["json", "text"]

_FIELDS = {"asctime": "time", "levelname": "level", "name": "logger"}

_CHATTER = {"kopf": logging.WARNING, "aiohttp": logging.WARNING, "asyncio": logging.WARNING}
"""Libraries that tell of every connection and handler at the level at which we tell of news."""


def configure(format_: Format, level: str) -> None:
    """Log to standard error from `level` on; libraries only from warnings on unless `level` is debug."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter(format_))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)
    for name, floor in _CHATTER.items():
        logging.getLogger(name).setLevel(logging.NOTSET if level.upper() == "DEBUG" else floor)


def _formatter(format_: Format) -> logging.Formatter:
    if format_ == "text":
        return logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    return JsonFormatter("%(asctime)s %(levelname)s %(name)s %(message)s", rename_fields=_FIELDS)
