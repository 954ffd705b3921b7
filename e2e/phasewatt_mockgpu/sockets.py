"""gRPC servers on unix sockets, as kubelet expects its plugins."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc

# An open ListAndWatch or NodeWatchResources stream holds a thread until its end is noticed.
_THREADS = 16
MAX_SOCKET_PATH = 107
"""Longest path of a unix socket on Linux, in bytes (unix(7), sun_path)."""

Registrar = Callable[[grpc.Server], None]


def serve(path: Path, *registrars: Registrar) -> grpc.Server:
    """Start a server on `path`, replacing the socket of a predecessor that was killed.

    Raises ValueError for a path that no unix socket can have.
    """
    if len(str(path).encode()) > MAX_SOCKET_PATH:
        raise ValueError(f"socket path longer than {MAX_SOCKET_PATH} bytes: {path}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    server = grpc.server(ThreadPoolExecutor(_THREADS, thread_name_prefix=path.stem))
    for register in registrars:
        register(server)
    server.add_insecure_port(f"unix://{path}")
    server.start()
    return server


def stop_serving(server: grpc.Server, path: Path, grace_seconds: float = 1.0) -> None:
    """Let calls under way finish, then remove the socket so that kubelet sees the plugin leave."""
    server.stop(grace_seconds).wait()
    path.unlink(missing_ok=True)


def dial(path: Path) -> grpc.Channel:
    """A fresh channel to a server on `path`; global connection reuse is off, so a replaced socket is really dialled."""
    return grpc.insecure_channel(f"unix://{path}", options=[("grpc.use_local_subchannel_pool", 1)])
