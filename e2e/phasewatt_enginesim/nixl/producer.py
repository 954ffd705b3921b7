"""The prefill side: keeps a finished prompt's blocks under a lease until a decode engine has read them."""

import asyncio
import logging
import time
from typing import Any

from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from phasewatt_enginesim.config import EngineConfig, KVTransferConfig
from phasewatt_enginesim.engine.kvpool import KVPool
from phasewatt_enginesim.engine.request import FinishReason, Request
from phasewatt_enginesim.metrics.nixl import NixlMetrics
from phasewatt_enginesim.nixl.compatibility import compatibility_hash
from phasewatt_enginesim.nixl.leases import LeaseTable
from phasewatt_enginesim.nixl.messages import Handshake, Heartbeat, ReadDone, ReadVerdict

log = logging.getLogger(__name__)


class Producer:
    """Blocks held for readers, and the side channel through which readers ask for them."""

    def __init__(self, config: EngineConfig, transfer: KVTransferConfig, pool: KVPool, metrics: NixlMetrics) -> None:
        self._config = config
        self._transfer = transfer
        self._pool = pool
        self._metrics = metrics
        self._hash = compatibility_hash(config)
        self._changed = asyncio.Event()
        self.leases = LeaseTable(transfer.lease_s)
        self.side_channel_port = config.side_channel_port

    def request_finished(self, request: Request, reason: FinishReason) -> dict[str, Any] | None:
        """Start the lease of a finished prefill leg and return its `kv_transfer_params`; None when nothing is kept."""
        if not request.is_remote_decode or reason not in (FinishReason.LENGTH, FinishReason.STOP):
            return None
        self.leases.hold(request.request_id, time.monotonic())
        self._changed.set()
        return {
            "do_remote_prefill": True,
            "do_remote_decode": False,
            "remote_block_ids": [self._pool.blocks(request.request_id)],
            "remote_engine_id": self._transfer.engine_id,
            "remote_request_id": request.request_id,
            "remote_host": self._config.side_channel_host,
            "remote_port": self.side_channel_port,
            "tp_size": self._config.tensor_parallel,
            "dcp_size": 1,
            "pp_size": 1,
            "remote_num_tokens": request.computed_tokens,
            "remote_blocks_expiry_time": None,
            "transfer_mode": "pull",
            "remote_prefill_cached_tokens": 0,
        }

    async def run(self, freed: asyncio.Event) -> None:
        """Free the blocks of expired leases, for ever; `freed` is set after blocks came back."""
        self._freed = freed
        while True:
            end = self.leases.next_end()
            try:
                async with asyncio.timeout(None if end is None else max(0.0, end - time.monotonic())):
                    await self._changed.wait()
                self._changed.clear()
            except TimeoutError:
                for request_id in self.leases.expire(time.monotonic()):
                    log.warning("Releasing expired KV blocks for request %s which were never retrieved.", request_id)
                    self._metrics.expired_requests.inc()
                    self._give_back(request_id)

    def _give_back(self, request_id: str) -> None:
        self._pool.release(request_id)
        self._freed.set()

    def app(self) -> Starlette:
        """The side channel as an ASGI application."""
        return Starlette(
            routes=[
                Route("/handshake", self._handshake),
                Route("/read", self._read, methods=["POST"]),
                Route("/heartbeat", self._heartbeat, methods=["POST"]),
            ]
        )

    async def _handshake(self, _: HttpRequest) -> Response:
        return _json(
            Handshake(
                engine_id=self._transfer.engine_id,
                compatibility_hash=self._hash,
                tp_size=self._config.tensor_parallel,
                block_tokens=self._config.block_tokens,
            )
        )

    async def _read(self, http: HttpRequest) -> Response:
        try:
            done = ReadDone.model_validate_json(await http.body())
        except ValidationError as error:
            return JSONResponse({"error": str(error)}, status_code=400)
        if done.engine_id != self._transfer.engine_id:
            return JSONResponse({"error": f"this is engine {self._transfer.engine_id}"}, status_code=409)
        held = self.leases.release(done.request_id)
        if held:
            self._changed.set()
            self._give_back(done.request_id)
        else:
            self._metrics.notifications_after_expiry.inc()
            log.error(
                "Potentially invalid KV blocks for unrecognized request %s were retrieved by a decode worker."
                " They may have expired.",
                done.request_id,
            )
        return _json(ReadVerdict(held=held))

    async def _heartbeat(self, http: HttpRequest) -> Response:
        for request_id in Heartbeat.model_validate_json(await http.body()).request_ids:
            self.leases.extend(request_id, time.monotonic())
        self._changed.set()
        return Response(status_code=204)


def _json(message: BaseModel) -> Response:
    return Response(message.model_dump_json(), media_type="application/json")
