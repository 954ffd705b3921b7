"""One prefill, one decode and one colocated engine, started side by side and shared by all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from phasewatt_testbed.enginefolder import ensure_engine_environment

from .engine_processes import Engine, make_engine, make_router


@dataclass(frozen=True)
class Engines:
    """The engines of the suite."""

    prefill: Engine
    decode: Engine
    colocated: Engine


@pytest.fixture(scope="session")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    environment = ensure_engine_environment()
    folder = tmp_path_factory.mktemp("engines")
    started = Engines(
        prefill=make_engine("prefill", environment, folder, "kv_producer"),
        decode=make_engine("decode", environment, folder, "kv_consumer"),
        colocated=make_engine("colocated", environment, folder, None),
    )
    servers = [engine.server for engine in (started.prefill, started.decode, started.colocated)]
    # A server dies with the thread that started it (PR_SET_PDEATHSIG), so the threads live as long as the servers.
    with ThreadPoolExecutor(len(servers)) as pool:
        try:
            list(pool.map(lambda server: server.start(), servers))
            yield started
        finally:
            for server in servers:
                server.stop()


@dataclass(frozen=True)
class Router:
    """The router in front of the prefill and the decode engine."""

    endpoint: Engine
    metrics_url: str


@pytest.fixture(scope="session")
def router(engines: Engines, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Router]:
    folder: Path = tmp_path_factory.mktemp("router")
    endpoint, metrics_url = make_router(folder, engines.prefill, engines.decode)
    endpoint.server.start()
    try:
        yield Router(endpoint, metrics_url)
    finally:
        endpoint.server.stop()
