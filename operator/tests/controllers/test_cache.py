"""What the cache believes, whatever the order in which news arrives."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from loop_harness import NAMESPACE, child, inference, labels
from phasewatt.controllers.cache import Cache, Change
from phasewatt.controllers.keys import Key
from phasewatt.controllers.slim import freeze
from phasewatt.kube.fake import FakeApi
from phasewatt.plan.types import Ref

KEY = Key(NAMESPACE, "chat")
ENGINE = Ref("Deployment", "chat-0")


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


@pytest.fixture
def cache(api: FakeApi) -> Cache:
    return Cache(api)


def make_engine(api: FakeApi, name: str = "chat-0") -> dict[str, Any]:
    owner = next(iter(api.objects("DisaggregatedInference")), None) or api.create(inference("chat"))
    return api.create(child(owner, "Deployment", name, {"replicas": 1}))


def pod(name: str, **status: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels("chat")},
        "spec": {"containers": [{"name": "engine", "image": "i", "env": [{"name": "A", "value": "1" * 999}]}]},
        "status": {"phase": "Running", **status},
    }


def test_an_older_version_never_replaces_a_newer(api: FakeApi, cache: Cache) -> None:
    old = make_engine(api)
    new = api.update(*ENGINE[:1], NAMESPACE, ENGINE.name, lambda o: o["spec"].update(replicas=0))
    assert cache.observe(new) == (KEY, Change.SHAPE)
    assert cache.observe(old) == (KEY, Change.NONE)
    assert cache.child(KEY, ENGINE) == new


def test_the_deletion_of_a_namesake_that_came_back_is_old_news(api: FakeApi, cache: Cache) -> None:
    first = make_engine(api)
    deleted: list[dict[str, Any]] = []
    api.watchers.append(lambda kind, obj: deleted.append(obj) if kind == "DELETED" else None)
    api.remove("Deployment", NAMESPACE, "chat-0")
    second = make_engine(api)
    cache.observe(second)
    assert cache.observe(deleted[0], deleted=True) == (KEY, Change.NONE)
    assert cache.child(KEY, ENGINE) == second
    assert first["metadata"]["uid"] != second["metadata"]["uid"]


def test_status_and_shape_are_told_apart_and_noise_is_no_news(api: FakeApi, cache: Cache) -> None:
    cache.observe(make_engine(api))
    ready = api.update("Deployment", NAMESPACE, "chat-0", lambda o: o.update(status={"readyReplicas": 1}))
    assert cache.observe(ready) == (KEY, Change.STATUS)
    noisy = copy.deepcopy(ready)
    noisy["metadata"] |= {"resourceVersion": "999", "managedFields": [{"manager": "someone"}]}
    assert cache.observe(noisy) == (KEY, Change.NONE)
    relabelled = api.update("Deployment", NAMESPACE, "chat-0", lambda o: o["metadata"]["labels"].update(team="x"))
    relabelled["metadata"]["resourceVersion"] = "1000"
    assert cache.observe(relabelled) == (KEY, Change.SHAPE)


def test_a_thawed_copy_is_free_to_be_changed(api: FakeApi, cache: Cache) -> None:
    live = make_engine(api)
    cache.observe(live)
    thawed = cache.child(KEY, ENGINE)
    assert thawed is not None
    thawed["spec"]["replicas"] = 7
    assert cache.child(KEY, ENGINE) == live


def test_pods_are_kept_strictly_slim() -> None:
    live = pod("chat-0-abc", podIP="10.0.0.1", hostIP="1.2.3.4", containerStatuses=[{"name": "engine", "imageID": "x"}])
    live["metadata"] |= {"uid": "u", "resourceVersion": "5"}
    slim = freeze(live).thaw()
    assert slim["status"] == {"phase": "Running", "podIP": "10.0.0.1", "containerStatuses": [{"name": "engine"}]}
    assert slim["spec"] == {"containers": [{"name": "engine", "image": "i"}]}


def test_objects_without_our_labels_are_nobodys(cache: Cache) -> None:
    stranger = pod("other")
    stranger["metadata"] |= {"labels": {}, "uid": "u", "resourceVersion": "5"}
    assert cache.observe(stranger) is None


async def test_a_resync_finds_what_the_watch_lost(api: FakeApi, cache: Cache) -> None:
    make_engine(api, "chat-0")
    make_engine(api, "chat-1")
    assert await cache.resync() == {KEY}
    assert await cache.resync() == set()
    api.remove("Deployment", NAMESPACE, "chat-0")
    assert await cache.resync() == {KEY}
    assert set(cache.children(KEY)) == {Ref("Deployment", "chat-1")}


async def test_what_is_younger_than_the_list_survives_it(api: FakeApi, cache: Cache) -> None:
    cache.observe(make_engine(api))
    listed = api.list

    async def list_then_news(*args: Any) -> Any:
        async for item in listed(*args):
            yield item
        if args[0].kind == "Deployment":
            cache.observe(make_engine(api, "chat-late"))

    api_with_news = type("Api", (), {"list": staticmethod(list_then_news)})()
    cache._api = api_with_news
    await cache.resync()
    assert Ref("Deployment", "chat-late") in cache.children(KEY)


async def test_a_refresh_of_one_object_tells_whether_anything_differed(api: FakeApi, cache: Cache) -> None:
    make_engine(api)
    assert await cache.refresh(KEY)
    assert not await cache.refresh(KEY)
    api.remove("Deployment", NAMESPACE, "chat-0")
    assert await cache.refresh(KEY)
    assert cache.children(KEY) == {}


def test_an_object_that_is_gone_leaves_nothing_behind(api: FakeApi, cache: Cache) -> None:
    obj = api.create(inference("chat"))
    cache.observe(obj)
    assert cache.all_keys() == [KEY]
    cache.observe({**obj, "metadata": {**obj["metadata"], "resourceVersion": "99"}}, deleted=True)
    assert cache.all_keys() == []
    assert cache._slots == {}
