"""The decode side: shakes hands with a prefill engine, pulls a prompt's KV, and tells that engine that it did."""

import logging
from collections.abc import Sequence
from typing import TypeVar

import httpcore
from phasewatt.model.kv import kv_blocks, kv_bytes
from phasewatt.model.transfer import LINKS, wire_seconds
from pydantic import BaseModel, ValidationError

from phasewatt_enginesim.config import EngineConfig, KVTransferConfig
from phasewatt_enginesim.engine.request import Request
from phasewatt_enginesim.metrics.nixl import NixlMetrics
from phasewatt_enginesim.nixl.compatibility import compatibility_hash, refuses_tensor_parallel
from phasewatt_enginesim.nixl.messages import Handshake, Heartbeat, ReadDone, ReadVerdict, RemotePrefill
from phasewatt_enginesim.simtime import SimClock
from phasewatt_enginesim.text import garbage_seed

log = logging.getLogger(__name__)

SIDE_CHANNEL_TIMEOUT_S = 5.0
"""vLLM's receive timeout on the side channel (base_worker.py)."""

TIMEOUTS = {"timeout": dict.fromkeys(("connect", "read", "write", "pool"), SIDE_CHANNEL_TIMEOUT_S)}

UNREACHABLE = (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, httpcore.UnsupportedProtocol)

HEARTBEATS_PER_LEASE = 6


Message = TypeVar("Message", bound=BaseModel)


class PullError(Exception):
    """KV could not be pulled; the message says why."""


class Consumer:
    """Pulls KV for requests whose prompt another engine computed."""

    def __init__(self, config: EngineConfig, transfer: KVTransferConfig, clock: SimClock, metrics: NixlMetrics) -> None:
        self._config = config
        self._transfer = transfer
        self._clock = clock
        self._metrics = metrics
        self._hash = compatibility_hash(config)
        self._known_engines: set[str] = set()
        self._wanted: dict[str, RemotePrefill] = {}
        # httpcore, httpx's own transport: httpx itself takes a third of the simulator's start to import.
        self._http = httpcore.AsyncConnectionPool()

    def want(self, request: Request) -> bool:
        """Remember a request's remote blocks so that heartbeats keep them; False when its parameters name none."""
        remote = self._remote(request)
        if remote is not None:
            self._wanted[request.request_id] = remote
        return remote is not None

    def forget(self, request: Request) -> None:
        """Stop the heartbeats of a request."""
        self._wanted.pop(request.request_id, None)

    async def pull(self, request: Request) -> bool:
        """Pull the KV of a request's whole prompt; whether it arrived. Failures are counted and logged, not raised."""
        remote = self._wanted[request.request_id]
        try:
            await self._shake_hands(remote)
            await self._transfer_blocks(request, remote)
        except PullError as failure:
            self._known_engines.discard(remote.remote_engine_id)
            self._metrics.failed_transfers.inc()
            log.error("NIXL transfer failure for request %s: %s", request.request_id, failure)
            return False
        finally:
            self.forget(request)
        return True

    async def decline(self, request: Request) -> None:
        """Tell the prefill engine that its blocks are not needed, so that it frees them before the lease ends."""
        remote = self._remote(request)
        if remote is None:
            return
        try:
            await self._notify(remote)
        except PullError as failure:
            self._metrics.failed_transfers.inc()
            self._metrics.failed_notifications.inc()
            log.error("Prefill blocks of %s will be freed after timeout: %s", request.request_id, failure)

    @property
    def heartbeat_interval_s(self) -> float:
        """Wall seconds between heartbeats."""
        return self._transfer.lease_s / HEARTBEATS_PER_LEASE

    async def send_heartbeats(self) -> None:
        """Renew the leases of all wanted blocks once."""
        by_engine: dict[str, list[str]] = {}
        for remote in self._wanted.values():
            by_engine.setdefault(_url(remote), []).append(remote.remote_request_id)
        for url, request_ids in by_engine.items():
            try:
                await self._ask("POST", f"{url}/heartbeat", Heartbeat(request_ids=request_ids))
            except PullError as failure:
                log.warning("Failed to send heartbeat: %s", failure)

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    def _remote(self, request: Request) -> RemotePrefill | None:
        try:
            return RemotePrefill.model_validate(request.kv_transfer_params)
        except ValidationError:
            log.warning(
                "Got invalid KVTransferParams: %s. This request will not utilize KVTransfer", request.kv_transfer_params
            )
            return None

    async def _shake_hands(self, remote: RemotePrefill) -> None:
        if remote.remote_engine_id in self._known_engines:
            return
        peer = _parsed(Handshake, await self._ask("GET", f"{_url(remote)}/handshake"))
        if self._transfer.enforce_compatibility and peer.compatibility_hash != self._hash:
            raise PullError(
                f"NIXL compatibility hash mismatch. Local: {self._hash}, Remote: {peer.compatibility_hash}."
                " Prefill and decode instances have incompatible configurations: different vLLM versions, models,"
                " dtypes or KV layouts."
            )
        if peer.engine_id != remote.remote_engine_id:
            raise PullError(
                f"Remote NIXL agent engine ID mismatch. Expected {remote.remote_engine_id}, received {peer.engine_id}."
            )
        if refuses_tensor_parallel(peer.tp_size, self._config.tensor_parallel, self._config.model.kv_heads):
            raise PullError(
                f"prefill tensor parallel size {peer.tp_size} replicates its KV heads and exceeds the decode size"
                f" {self._config.tensor_parallel}"
            )
        self._known_engines.add(remote.remote_engine_id)

    async def _transfer_blocks(self, request: Request, remote: RemotePrefill) -> None:
        blocks = kv_blocks(request.prompt_tokens, self._config.block_tokens)
        size = kv_bytes(self._config.model, blocks * self._config.block_tokens)
        wire_s = wire_seconds(self._config.transport, size // self._config.tensor_parallel)
        setup_s = LINKS[self._config.transport].setup_s
        await self._clock.sleep(wire_s + setup_s)
        verdict = await self._notify(remote)
        if not verdict.held:
            log.error("Request %s read KV blocks that were no longer held: its output is garbage", request.request_id)
            request.seed = garbage_seed(request.seed)
        self._metrics.observe_transfer(
            size_bytes=size,
            descriptors=self._config.model.layers * contiguous_runs(remote.remote_block_ids[0]),
            wire_s=wire_s,
            post_s=setup_s,
            ranks=self._config.tensor_parallel,
        )

    async def _notify(self, remote: RemotePrefill) -> ReadVerdict:
        done = ReadDone(engine_id=remote.remote_engine_id, request_id=remote.remote_request_id)
        return _parsed(ReadVerdict, await self._ask("POST", f"{_url(remote)}/read", done))

    async def _ask(self, method: str, url: str, message: BaseModel | None = None) -> bytes:
        content = message.model_dump_json().encode() if message is not None else None
        try:
            answer = await self._http.request(method, url, content=content, extensions=TIMEOUTS)
        except UNREACHABLE as error:
            raise PullError(f"{method} {url}: {error!r}") from error
        if answer.status >= 300:
            raise PullError(f"{method} {url}: status {answer.status}, {answer.content[:200].decode(errors='replace')}")
        return answer.content


def _parsed(kind: type[Message], answer: bytes) -> Message:
    try:
        return kind.model_validate_json(answer)
    except ValidationError as error:
        raise PullError(f"the side channel's answer is no {kind.__name__}: {error}") from error


def contiguous_runs(blocks: Sequence[int]) -> int:
    """Runs of consecutive block ids: NIXL moves each run of a layer with one descriptor."""
    return sum(
        1 for before, block in zip([None, *blocks], blocks, strict=False) if before is None or block != before + 1
    )


def _url(remote: RemotePrefill) -> str:
    host = f"[{remote.remote_host}]" if ":" in remote.remote_host else remote.remote_host
    return f"http://{host}:{remote.remote_port}"
