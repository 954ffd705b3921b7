"""Children without an owner and children of an earlier object: what is ours to take, and what is told meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from loop_harness import NAMESPACE, Loop, VirtualClockLoop, inference, settled
from phasewatt.api.v1alpha1 import KIND
from phasewatt.kube.fake import FakeApi

LONG = 3600.0
"""Virtual seconds: enough for every backoff."""


def played(story: Callable[[FakeApi, Loop], Coroutine[Any, Any, None]]) -> None:
    async def play() -> None:
        fake = FakeApi()
        loop = Loop(fake)
        async with loop.alive():
            await loop.resync()
            await story(fake, loop)

    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        runner.run(play())


def chat(engines: int) -> dict[str, Any]:
    return inference("chat", engines=engines, image="a")


def test_a_surplus_child_that_lost_its_owner_still_goes() -> None:
    async def story(fake: FakeApi, loop: Loop) -> None:
        fake.create(chat(2))
        await asyncio.sleep(LONG)
        for deployment in fake.objects("Deployment"):
            name = deployment["metadata"]["name"]
            fake.update("Deployment", NAMESPACE, name, lambda child: child["metadata"].pop("ownerReferences"))
        fake.update(KIND, NAMESPACE, "chat", lambda obj: obj["spec"].update(engines=1))
        await asyncio.sleep(LONG)
        assert settled(fake) == []

    played(story)


def test_a_child_of_an_earlier_object_that_will_not_go_is_named() -> None:
    async def story(fake: FakeApi, loop: Loop) -> None:
        fake.create(chat(1))
        await asyncio.sleep(LONG)
        held = fake.objects("Deployment")[0]["metadata"]["name"]
        fake.update(
            "Deployment", NAMESPACE, held, lambda child: child["metadata"].update(finalizers=["example.com/keep"])
        )
        fake.remove(KIND, NAMESPACE, "chat")
        fake.collect_garbage()
        fake.create(chat(1))
        await asyncio.sleep(10)
        (obj,) = fake.objects(KIND)
        told = {c["type"]: c for c in obj["status"]["conditions"]}
        assert told["Ready"]["reason"] == told["Reconciling"]["reason"] == "WaitingForDeletion"
        assert held in told["Ready"]["message"]
        assert "example.com/keep" in told["Ready"]["message"]
        fake.update("Deployment", NAMESPACE, held, lambda child: child["metadata"].pop("finalizers"))
        fake.collect_garbage()
        await asyncio.sleep(LONG)
        assert settled(fake) == []

    played(story)
