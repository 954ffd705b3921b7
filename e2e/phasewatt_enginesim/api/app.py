"""The simulated server's HTTP routes."""

import json
import time
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from phasewatt_enginesim import VERSION
from phasewatt_enginesim.api.completions import create_chat_completion, create_completion
from phasewatt_enginesim.api.errors import ApiError, bad_request, respond_api_error, respond_validation_error
from phasewatt_enginesim.engine.core import Engine


def build_app(engine: Engine, registry: CollectorRegistry) -> Starlette:
    """The server of one engine."""
    app = Starlette(
        routes=[
            Route("/v1/completions", create_completion, methods=["POST"]),
            Route("/v1/chat/completions", create_chat_completion, methods=["POST"]),
            Route("/v1/models", models),
            Route("/health", health),
            Route("/ping", health, methods=["GET", "POST"]),
            Route("/version", version),
            Route("/load", load),
            Route("/metrics", metrics),
            Route("/sim/faults", faults, methods=["GET", "POST", "DELETE"]),
        ],
        exception_handlers={ApiError: respond_api_error, ValidationError: respond_validation_error},
    )
    app.state.engine = engine
    app.state.registry = registry
    app.state.created = int(time.time())
    return app


async def models(http: Request) -> Response:
    """`GET /v1/models`: every served name."""
    config = http.app.state.engine.config
    cards: list[dict[str, Any]] = [
        {
            "id": name,
            "object": "model",
            "created": http.app.state.created,
            "owned_by": "vllm",
            "root": config.model_reference,
            "parent": None,
            "max_model_len": config.max_model_len,
            "permission": [],
        }
        for name in config.served_names
    ]
    return JSONResponse({"object": "list", "data": cards})


async def health(http: Request) -> Response:
    """200, or 503 when the engine is dead."""
    return Response(status_code=503 if http.app.state.engine.is_dead else 200)


async def version(_: Request) -> Response:
    """The version, which says that this is a simulator."""
    return JSONResponse({"version": VERSION})


async def load(http: Request) -> Response:
    """Unfinished requests."""
    return JSONResponse({"server_load": sum(1 for _ in http.app.state.engine.scheduler)})


async def metrics(http: Request) -> Response:
    """The Prometheus exposition."""
    return Response(generate_latest(http.app.state.registry), headers={"content-type": CONTENT_TYPE_LATEST})


async def faults(http: Request) -> Response:
    """GET shows the faults in force, POST changes those it names, DELETE ends all."""
    board = http.app.state.engine.faults
    if http.method == "DELETE":
        board.clear()
    elif http.method == "POST":
        try:
            changes = json.loads(await http.body())
        except json.JSONDecodeError as error:
            raise bad_request(f"the body is not JSON: {error}") from error
        if not isinstance(changes, dict):
            raise bad_request("the body must be a JSON object of faults")
        board.update(changes)
    return JSONResponse(board.faults.model_dump())
