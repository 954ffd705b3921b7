"""`/healthz` and `/readyz` for the node plugin's own probes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import grpc

from phasewatt_mockgpu.proto import dra_v1_pb2, dra_v1_pb2_grpc
from phasewatt_mockgpu.sockets import dial

log = logging.getLogger(__name__)
_RPC_TIMEOUT_SECONDS = 2.0

Check = Callable[[], str | None]
"""None when all is well, else a sentence that says what is wrong."""


def dra_socket_answers(socket: Path) -> str | None:
    """Call the DRA service as kubelet would, with no claims: finds a removed socket as well as a hung server."""
    try:
        with dial(socket) as channel:
            request = dra_v1_pb2.NodePrepareResourcesRequest()
            dra_v1_pb2_grpc.DRAPluginStub(channel).NodePrepareResources(request, timeout=_RPC_TIMEOUT_SECONDS)
    except grpc.RpcError as error:
        return f"{socket} does not answer: {error.code().name}"
    return None


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        log.debug(format, *args)


def probe_server(port: int, checks: Mapping[str, Iterable[Check]], host: str = "") -> WSGIServer:
    """An HTTP server that runs a path's checks and answers 200, or 503 with what is wrong (port 0: any free one)."""

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        path_checks = checks.get(environ["PATH_INFO"])
        if path_checks is None:
            status, text = HTTPStatus.NOT_FOUND, "known paths: " + ", ".join(checks)
        else:
            faults = [fault for check in path_checks if (fault := check())]
            status = HTTPStatus.SERVICE_UNAVAILABLE if faults else HTTPStatus.OK
            text = "; ".join(faults) or "ok"
        start_response(f"{status.value} {status.phrase}", [("Content-Type", "text/plain; charset=utf-8")])
        return [text.encode() + b"\n"]

    return make_server(host, port, application, handler_class=_QuietHandler)
