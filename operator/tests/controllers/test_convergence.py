"""Whatever happens to objects, children, requests and watch events: the loop converges, then writes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from loop_harness import NAMESPACE, Loop, VirtualClockLoop, inference, settled
from phasewatt.api.v1alpha1 import KIND
from phasewatt.kube.errors import ConflictError, RetryableError, error_for
from phasewatt.kube.fake import FakeApi, Fault, Request, When

NAMES = st.sampled_from(["chat", "code"])
ENGINES = st.integers(0, 4)
IMAGES = st.sampled_from(["a", "b"])
FAULTS = st.sampled_from(
    [
        Fault(When.BEFORE, RetryableError("overloaded", code=429, retry_after=1.0)),
        Fault(When.BEFORE, RetryableError("no answer")),
        Fault(When.AFTER, RetryableError("the answer got lost")),
        Fault(When.BEFORE, ConflictError("conflict", code=409)),
        Fault(When.BEFORE, error_for(500, "internal error")),
        Fault(When.BEFORE, error_for(403, "quota exceeded")),
        Fault(When.BEFORE, error_for(404, "namespace not found")),
    ]
)
LONG = 3600.0
"""Virtual seconds: enough for every backoff."""


class Convergence(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=VirtualClockLoop)
        self.stack = AsyncExitStack()
        self.fake = FakeApi(fault=self._next_fault)
        self.faults: list[Fault] = []
        self.lost = 0

    def _do(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(coroutine)

    def _next_fault(self, request: Request) -> Fault | None:
        return self.faults.pop() if self.faults else None

    def _loses(self, kind: str, obj: dict[str, Any]) -> bool:
        if kind == "DELETED" and self.lost > 0:
            self.lost -= 1
            return True
        return False

    async def _start(self) -> None:
        self.loop = Loop(self.fake)
        self.loop.lose = self._loses
        await self.stack.enter_async_context(self.loop.alive())
        faults, self.faults = self.faults, []
        await self.loop.resync()
        self.faults = faults

    @initialize()
    def start(self) -> None:
        self._do(self._start())

    @rule(name=NAMES, engines=ENGINES, image=IMAGES)
    def create_or_edit(self, name: str, engines: int, image: str) -> None:
        async def act() -> None:
            if self._exists(name):
                self.fake.update(KIND, NAMESPACE, name, lambda o: o["spec"].update(engines=engines, image=image))
            else:
                self.fake.create(inference(name, engines=engines, image=image))

        self._do(act())

    @rule(name=NAMES)
    def delete_object(self, name: str) -> None:
        async def act() -> None:
            if self._exists(name):
                self.fake.remove(KIND, NAMESPACE, name)

        self._do(act())

    @rule()
    def collect_garbage(self) -> None:
        async def act() -> None:
            self.fake.collect_garbage()

        self._do(act())

    @rule(data=st.data())
    def delete_child(self, data: st.DataObject) -> None:
        async def act() -> None:
            if children := self._children():
                kind, name = data.draw(st.sampled_from(children))
                self.fake.remove(kind, NAMESPACE, name)

        self._do(act())

    @rule(data=st.data(), image=st.sampled_from(["hacked", "b"]))
    def edit_child(self, data: st.DataObject, image: str) -> None:
        async def act() -> None:
            if engines := [c for c in self._children() if c[0] == "Deployment"]:
                kind, name = data.draw(st.sampled_from(engines))
                self.fake.update(kind, NAMESPACE, name, lambda o: o["spec"]["template"].update(image=image))

        self._do(act())

    @rule(faults=st.lists(FAULTS, min_size=1, max_size=6))
    def fail_next_requests(self, faults: list[Fault]) -> None:
        self.faults += faults

    @rule(count=st.integers(1, 3))
    def lose_deletions(self, count: int) -> None:
        self.lost += count

    @rule(seconds=st.sampled_from([0.0, 0.004, 0.01, 0.05, 0.5, 3.0]))
    def wait(self, seconds: float) -> None:
        self._do(asyncio.sleep(seconds))

    @rule()
    def restart_operator(self) -> None:
        self._do(self.stack.aclose())
        self._do(self._start())

    @rule()
    @precondition(lambda self: hasattr(self, "loop"))
    def converges_then_rests(self) -> None:
        self.faults, self.lost = [], 0
        self._do(self._settle())
        assert settled(self.fake) == []
        before = len(self.fake.requests)
        self._do(self._resync_and_wait())
        assert [r for r in self.fake.requests[before:] if r.verb != "list"] == []

    @invariant()
    def no_key_is_worked_on_twice_at_once(self) -> None:
        if hasattr(self, "loop"):
            assert self.loop.reconciler.overlaps == []

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            self.converges_then_rests()
            self.no_key_is_worked_on_twice_at_once()
            self._do(self.stack.aclose())
        self.runner.close()

    async def _settle(self) -> None:
        self.fake.collect_garbage()
        await self._resync_and_wait()
        self.fake.collect_garbage()
        await self._resync_and_wait()

    async def _resync_and_wait(self) -> None:
        await self.loop.resync()
        await asyncio.sleep(LONG)

    def _exists(self, name: str) -> bool:
        return any(o["metadata"]["name"] == name for o in self.fake.objects(KIND))

    def _children(self) -> list[tuple[str, str]]:
        return [(k, o["metadata"]["name"]) for k in ("Deployment", "Service") for o in self.fake.objects(k)]


TestConvergence = Convergence.TestCase
TestConvergence.settings = settings(
    max_examples=60, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
