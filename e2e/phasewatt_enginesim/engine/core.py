"""The engine loop: one step after another, each taking the simulated time that the analytic model gives it."""

import asyncio
import itertools
import logging
import uuid
from collections.abc import Coroutine
from typing import Any

from phasewatt.model.power import run_step
from prometheus_client import CollectorRegistry

from phasewatt_enginesim.config import EngineConfig
from phasewatt_enginesim.engine.kvpool import KVPool
from phasewatt_enginesim.engine.request import FinishReason, Output, Request, Status
from phasewatt_enginesim.engine.scheduler import Scheduler, Step
from phasewatt_enginesim.faults import FaultBoard
from phasewatt_enginesim.metrics.engine import EngineMetrics
from phasewatt_enginesim.metrics.family import MetricFactory
from phasewatt_enginesim.metrics.nixl import NixlMetrics
from phasewatt_enginesim.nixl.consumer import Consumer
from phasewatt_enginesim.nixl.producer import Producer
from phasewatt_enginesim.simtime import SimClock

log = logging.getLogger(__name__)


class Engine:
    """One simulated engine. `submit` requests and read what they emit; `run` makes them advance."""

    def __init__(self, config: EngineConfig, faults: FaultBoard, registry: CollectorRegistry) -> None:
        self.config = config
        self.faults = faults
        self.clock = SimClock(config.time_scale)
        self.pool = KVPool(config.kv_pool_blocks, config.block_tokens)
        self.scheduler = Scheduler(self.pool, config.max_num_seqs, config.max_num_batched_tokens)
        self.metrics = EngineMetrics(config, registry)
        self.producer: Producer | None = None
        self.consumer: Consumer | None = None
        if config.kv_transfer is not None:
            nixl_metrics = NixlMetrics(MetricFactory(registry, config.served_names[0]))
            self.producer = Producer(config, config.kv_transfer, self.pool, nixl_metrics)
            self.consumer = Consumer(config, config.kv_transfer, self.clock, nixl_metrics)
        self.accepting = True
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._tasks = asyncio.TaskGroup()
        self._serial = itertools.count()

    @property
    def is_dead(self) -> bool:
        """Whether the engine has failed for good, as far as its front end can tell."""
        return self.faults.faults.engine_dead

    @property
    def has_work(self) -> bool:
        """Whether requests are unfinished, or finished ones still wait for their reader."""
        return any(self.scheduler) or bool(self.producer and len(self.producer.leases))

    def new_request_id(self) -> str:
        """A request id that no other request of any engine has."""
        return f"{next(self._serial)}-{uuid.uuid4().hex[:12]}"

    def submit(self, request: Request) -> None:
        """Queue a request. While the engine shuts down it is aborted at once, as vLLM does."""
        if not self.accepting:
            request.emit(Output(0, FinishReason.ABORT))
            return
        request.arrived = self.clock.now()
        self.metrics.observe_submitted(request)
        self._decide_prompt_source(request)
        self.scheduler.add(request)
        self._wake.set()

    def abort(self, request: Request) -> None:
        """End a request early and free its blocks; a finished one is left alone."""
        if request.status is Status.FINISHED:
            return
        if request.wants_remote_prefill and self.consumer is not None:
            self._spawn(self.consumer.decline(request))
        self._finish(request, FinishReason.ABORT)

    def reject(self, request: Request) -> None:
        """Let go of a request that never reached the queue: its prefill engine learns that nobody will read."""
        if request.wants_remote_prefill and self.consumer is not None:
            self._spawn(self.consumer.decline(request))

    def stop_text(self, request: Request) -> None:
        """End a request because its text met a stop string."""
        if request.status is not Status.FINISHED:
            self._finish(request, FinishReason.STOP)

    def abort_all(self) -> int:
        """Abort all unfinished requests; how many there were."""
        requests = list(self.scheduler)
        for request in requests:
            self.abort(request)
        return len(requests)

    async def run(self) -> None:
        """Step for ever."""
        async with self._tasks:
            if self.producer is not None and self.consumer is not None:
                self._spawn(self.producer.run(self._wake))
                self._spawn(self._send_heartbeats(self.consumer))
            while True:
                await self.faults.wait_while_hung()
                await self._step()

    async def drained(self) -> None:
        """Return when there is no work left."""
        while self.has_work:
            self._idle.clear()
            await self._idle.wait()

    def _decide_prompt_source(self, request: Request) -> None:
        params = request.kv_transfer_params
        if params is None:
            return
        if self.consumer is None:
            log.warning("Got kv_transfer_params, but no KVConnector found. Disabling KVTransfer for this request.")
            request.kv_transfer_params = None
            return
        if not request.wants_remote_prefill:
            return
        if not self.consumer.want(request):
            request.remote_tried = True
        elif self.faults.next_pull_misses():
            self.consumer.forget(request)
            request.remote_tried = True
            self._spawn(self.consumer.decline(request))

    async def _step(self) -> None:
        step = self.scheduler.schedule()
        started = self.clock.now()
        self.metrics.observe_step(step)
        self.metrics.observe_queues(self.scheduler)
        for request in step.fetches:
            self._spawn(self._fetch(request))
        if not step.tokens:
            self._idle.set()
            if not step.fetches and not step.preempted:
                await self._wake.wait()
            self._wake.clear()
            return
        for request in step.tokens:
            if request.first_scheduled is None:
                request.first_scheduled = started
        ran = run_step(
            self.config.gpu.product,
            self.config.model,
            step.load(),
            self.config.gpu.present_clock_ghz(),
            self.config.tensor_parallel,
        )
        await self.clock.sleep_until(started + ran.time.total_s * self.faults.faults.slow_factor)
        self._complete(step)

    def _complete(self, step: Step) -> None:
        now = self.clock.now()
        computed_prompt = generated = 0
        for request, new in step.tokens.items():
            if request.status is not Status.RUNNING:
                continue
            request.computed_tokens += new
            if request.computed_tokens < request.total_tokens:
                continue
            generated += 1
            if request.output_tokens == 0:
                computed_prompt += self.metrics.observe_first_token(request, now)
                request.first_token = now
            elif request.last_token is not None:
                self.metrics.itl.observe(now - request.last_token)
            request.output_tokens += 1
            request.last_token = now
            reason = request.finish_after_token()
            if reason is None:
                request.emit(Output(request.output_tokens))
            else:
                self._finish(request, reason)
        self.metrics.generation_tokens.inc(generated)
        self.metrics.iteration_tokens.observe(computed_prompt + generated)

    def _finish(self, request: Request, reason: FinishReason) -> None:
        self.scheduler.remove(request)
        if self.consumer is not None:
            self.consumer.forget(request)
        params: dict[str, Any] | None = None
        if self.producer is not None:
            params = self.producer.request_finished(request, reason)
        if params is None:
            self.pool.release(request.request_id)
        self.metrics.observe_finished(request, reason, self.clock.now())
        self.metrics.observe_queues(self.scheduler)
        request.emit(Output(request.output_tokens, reason, params))
        self._wake.set()
        self.faults.request_finished()

    async def _send_heartbeats(self, consumer: Consumer) -> None:
        # vLLM sends them between steps: an engine that is stuck sends none.
        while True:
            await asyncio.sleep(consumer.heartbeat_interval_s)
            await self.faults.wait_while_hung()
            await consumer.send_heartbeats()

    async def _fetch(self, request: Request) -> None:
        assert self.consumer is not None
        assert self.config.kv_transfer is not None
        loaded = await self.consumer.pull(request)
        if request.status is Status.FINISHED:
            return
        if not loaded and self.config.kv_transfer.kv_load_failure_policy == "fail":
            self._finish(request, FinishReason.ERROR)
            return
        self.scheduler.fetched(request, loaded=loaded)
        self._wake.set()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.create_task(work)
