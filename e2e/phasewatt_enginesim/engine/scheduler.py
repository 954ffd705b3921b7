"""Continuous batching as in vLLM's V1 scheduler: running requests first, then waiting ones, within a token budget.

`schedule` decides one step and changes nothing but the requests, the queues and the KV pool; it knows no clock.
Copied rules (vllm/v1/core/sched/scheduler.py, 0.32): prompts are computed in chunks of what the budget leaves; when the
pool is empty the youngest running request gives up its blocks and is recomputed later; a step that preempts admits
nobody; a request that pulls its KV holds blocks for the whole prompt while it waits.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from phasewatt.model.step import PrefillChunk, StepLoad

from phasewatt_enginesim.engine.kvpool import KVPool
from phasewatt_enginesim.engine.request import Request, Status


@dataclass(slots=True)
class Step:
    """What one step computes, and which requests it lets in, sends to pull their KV, or preempts."""

    tokens: dict[Request, int] = field(default_factory=dict)
    admitted: list[Request] = field(default_factory=list)
    """Requests whose prompt's source was decided in this step: to compute, or to pull."""
    fetches: list[Request] = field(default_factory=list)
    preempted: list[Request] = field(default_factory=list)

    def load(self) -> StepLoad:
        """The step as the analytic model sees it."""
        chunks: list[PrefillChunk] = []
        decoding, context = 0, 0
        for request, new in self.tokens.items():
            if new == 1 and request.computed_tokens >= request.prompt_tokens:
                decoding += 1
                context += request.computed_tokens + 1
            else:
                chunks.append(PrefillChunk(new, request.computed_tokens))
        return StepLoad(tuple(chunks), decoding, context)


class Scheduler:
    """The waiting and running requests of one engine."""

    def __init__(self, pool: KVPool, max_num_seqs: int, max_num_batched_tokens: int) -> None:
        self.pool = pool
        self.max_num_seqs = max_num_seqs
        self.max_num_batched_tokens = max_num_batched_tokens
        self.waiting: deque[Request] = deque()
        self.running: list[Request] = []

    def __iter__(self) -> Iterator[Request]:
        yield from self.running
        yield from self.waiting

    @property
    def fetching(self) -> int:
        """Requests that wait for KV from another engine."""
        return sum(1 for request in self.waiting if request.status is Status.FETCHING)

    def add(self, request: Request) -> None:
        """Queue a new request."""
        self.waiting.append(request)

    def remove(self, request: Request) -> None:
        """Forget a request that ended; its blocks stay held until released."""
        request.status = Status.FINISHED
        if request in self.running:
            self.running.remove(request)
        elif request in self.waiting:
            self.waiting.remove(request)

    def schedule(self) -> Step:
        """Decide the next step; an empty one means that nothing can be computed now."""
        step = Step()
        budget = self._schedule_running(step)
        if not step.preempted:
            self._schedule_waiting(step, budget)
        return step

    def _schedule_running(self, step: Step) -> int:
        budget = self.max_num_batched_tokens
        index = 0
        while index < len(self.running) and budget > 0:
            request = self.running[index]
            new = min(request.total_tokens - request.computed_tokens, budget)
            if not self._make_room(request, request.computed_tokens + new, step):
                break
            step.tokens[request] = new
            budget -= new
            index += 1
        return budget

    def _make_room(self, request: Request, tokens: int, step: Step) -> bool:
        while not self.pool.grow(request.request_id, tokens):
            youngest = self.running.pop()
            step.tokens.pop(youngest, None)
            self._preempt(youngest)
            step.preempted.append(youngest)
            if youngest is request:
                return False
        return True

    def _preempt(self, request: Request) -> None:
        self.pool.release(request.request_id)
        request.computed_tokens = 0
        request.preemptions += 1
        request.status = Status.WAITING
        self.waiting.appendleft(request)

    def _schedule_waiting(self, step: Step, budget: int) -> None:
        # Those whose KV arrived hold blocks that the others may need: were they to wait too, nobody might ever run.
        for request in sorted(self.waiting, key=lambda waiting: not self.pool.holds(waiting.request_id)):
            if budget <= 0 or len(self.running) >= self.max_num_seqs:
                break
            if request.status is Status.FETCHING:
                continue
            if request.wants_remote_prefill:
                if not self.pool.grow(request.request_id, request.prompt_tokens):
                    break
                request.status = Status.FETCHING
                request.remote_tried = True
                request.external_tokens = request.prompt_tokens
                step.fetches.append(request)
                step.admitted.append(request)
                continue
            new = min(request.total_tokens - request.computed_tokens, budget)
            if not self.pool.grow(request.request_id, request.computed_tokens + new):
                break
            if request.computed_tokens == 0:
                step.admitted.append(request)
            self.waiting.remove(request)
            self.running.append(request)
            request.status = Status.RUNNING
            step.tokens[request] = new
            budget -= new

    def fetched(self, request: Request, *, loaded: bool) -> None:
        """The pull of a request's KV ended. Loaded: only the last prompt token is left to compute; else all are."""
        request.status = Status.WAITING
        if loaded:
            request.computed_tokens = request.prompt_tokens - 1
        else:
            request.computed_tokens = 0
            request.external_tokens = 0
            self.pool.release(request.request_id)
