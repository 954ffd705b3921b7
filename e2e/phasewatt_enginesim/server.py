"""The process: opens the ports, runs the engine, and shuts down as vLLM does."""

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Iterator

import uvicorn
from prometheus_client import CollectorRegistry
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from starlette.applications import Starlette

from phasewatt_enginesim.api.app import build_app
from phasewatt_enginesim.config import EngineConfig
from phasewatt_enginesim.engine.core import Engine
from phasewatt_enginesim.faults import FaultBoard, Faults

log = logging.getLogger(__name__)

KEEP_ALIVE_S = 5
"""vLLM's VLLM_HTTP_TIMEOUT_KEEP_ALIVE default."""

LAST_ANSWERS_S = 5
"""Seconds that answers already decided get to reach their clients once the engine has stopped."""


class EmbeddedServer(uvicorn.Server):
    """A uvicorn server that leaves signals to us: one signal stops two servers and the engine in order."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


async def serve(config: EngineConfig, faults: Faults) -> None:
    """Run the simulated engine until SIGTERM or SIGINT, then shut down by `config.shutdown_timeout_s`."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await start_up(faults, stop)
    if stop.is_set():
        return
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    engine = Engine(config, FaultBoard(faults), registry)
    await run_servers(engine, registry, stop)


async def start_up(faults: Faults, stop: asyncio.Event) -> None:
    """What happens before the port opens: a model load that may take long, or fail."""
    if faults.start_delay_s:
        log.info("Starting to load model (simulated: %s s)", faults.start_delay_s)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(faults.start_delay_s):
                await stop.wait()
    if faults.crash_at_start or faults.crash:
        FaultBoard(faults).crash_now()


async def run_servers(engine: Engine, registry: CollectorRegistry, stop: asyncio.Event) -> None:
    """Serve the API and, with a KV connector, the side channel, until `stop`; then drain or abort."""
    config = engine.config
    servers: list[uvicorn.Server] = []
    sockets: list[socket.socket] = []
    if engine.producer is not None:
        side_channel = listen(config.side_channel_host, config.side_channel_port)
        engine.producer.side_channel_port = side_channel.getsockname()[1]
        servers.append(embedded(engine.producer.app(), access_log=config.access_log))
        sockets.append(side_channel)
    servers.append(embedded(build_app(engine, registry), access_log=config.access_log))
    sockets.append(listen(config.host, config.port))
    for listener in sockets:
        log.info("Listening on http://%s:%d", *listener.getsockname()[:2])

    running = asyncio.create_task(engine.run())
    serving = [
        asyncio.create_task(server.serve(sockets=[listener])) for server, listener in zip(servers, sockets, strict=True)
    ]
    stopping = asyncio.create_task(stop.wait())
    try:
        done, _ = await asyncio.wait({running, stopping, *serving}, return_when=asyncio.FIRST_COMPLETED)
        for task in done - {stopping}:
            task.result()
        await shut_down(engine)
    finally:
        for server in servers:
            server.should_exit = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_ANSWERS_S):
                await asyncio.gather(*serving)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        if engine.consumer is not None:
            await engine.consumer.close()


async def shut_down(engine: Engine) -> None:
    """Drain for up to the configured time, refusing new requests; then abort what is left (vllm/v1/engine/core.py)."""
    timeout = engine.config.shutdown_timeout_s
    engine.accepting = False
    log.info("[shutdown] EngineCore: start mode=%s timeout=%ds", "drain" if timeout else "abort", timeout)
    if timeout:
        try:
            async with asyncio.timeout(timeout):
                await engine.drained()
        except TimeoutError:
            log.warning("[shutdown] EngineCore: drain did not finish in %d s", timeout)
    if (aborted := engine.abort_all()) > 0:
        log.info("[shutdown] EngineCore: aborting in-flight requests count=%d", aborted)


def embedded(app: Starlette, *, access_log: bool) -> EmbeddedServer:
    """A server for an ASGI application, with the logging this process has configured."""
    return EmbeddedServer(
        uvicorn.Config(app, log_config=None, access_log=access_log, timeout_keep_alive=KEEP_ALIVE_S, lifespan="off")
    )


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 picks a free one.

    Raises:
        OSError: the address is taken or not ours.
    """
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    listener.set_inheritable(True)
    return listener
