"""The planner in worlds whose events happen in any order, and in which the wish changes at any time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st
from phasewatt.plan.forecast import World, plan_worlds, worlds_for
from phasewatt.plan.live import Wanted

Target = Mapping[int, Wanted]
ENOUGH = 2_000
"""Turns in which every rollout of these small worlds must have ended."""


@st.composite
def targets(draw: st.DrawFn) -> Target:
    """Up to three equal groups of up to three engines each; a change of the claim changes all engines."""
    names = draw(st.sets(st.sampled_from(["p0", "p1", "d0", "shared"]), min_size=1, max_size=3))
    claim = draw(st.sampled_from([None, "x", "y"]))
    hashes = {name: f"{draw(st.sampled_from('ab'))}{claim}" for name in sorted(names)}
    router = f"{draw(st.sampled_from('rs'))}{','.join(hashes)}"
    groups = draw(st.integers(0, 3))
    return {index: Wanted(hashes, router, f"{claim}-{index}" if claim else None) for index in range(groups)}


@dataclass
class History:
    """What must hold at every moment, and what is counted over time."""

    starts: Counter[tuple[int, str, str]] = field(default_factory=Counter)
    seen: set[int] = field(default_factory=set)

    def check(self, worlds: Mapping[int, World]) -> None:
        for world in worlds.values():
            self._no_claim_is_held_twice_over(world)
            self._no_mixed_revision_serves(world)
            for name, pods in world.pods.items():
                for pod in pods:
                    if id(pod) not in self.seen:
                        self.seen.add(id(pod))
                        self.keep.append(pod)
                        self.starts[(world.index, name, pod.revision)] += 1

    keep: list[object] = field(default_factory=list)
    """Keeps pods alive, so that an id is never used twice."""

    @staticmethod
    def _no_claim_is_held_twice_over(world: World) -> None:
        held = {pod.claim for pods in world.pods.values() for pod in pods if pod.claim}
        assert len(held) <= 1, f"pods of group {world.index} hold GPUs of two revisions: {held}"
        for name, pods in world.pods.items():
            assert len(pods) <= 1, f"engine {name} has a surge pod"

    @staticmethod
    def _no_mixed_revision_serves(world: World) -> None:
        if not world.serving:
            return
        for name, deployment in world.engines.items():
            for pod in world.pods.get(name, []):
                assert pod.revision == deployment.revision, f"{name} of group {world.index} changes while it serves"


def run(
    data: st.DataObject, worlds: Mapping[int, World], wanted: Target, budget: int, history: History, turns: int = ENOUGH
) -> bool:
    """Let planner and cluster take turns in a drawn order; whether the rollout came to its end within `turns`."""
    for _ in range(turns):
        wrote = False
        if data.draw(st.booleans(), label="the operator gets to look"):
            steps = plan_worlds(worlds, wanted, budget)
            # The operator may die between two writes: the groups after that keep what they have.
            alive = data.draw(st.integers(0, len(steps)), label="writes before it dies")
            for step in steps[:alive]:
                wrote |= worlds[step.index].write(step, wanted.get(step.index))
            history.check(worlds)
        events = [event for world in worlds.values() for event in world.events()]
        if events:
            events[data.draw(st.integers(0, len(events) - 1), label="what happens next")]()
            history.check(worlds)
        elif not wrote and not _would_write(worlds, wanted, budget):
            return True
    return False


def _would_write(worlds: Mapping[int, World], wanted: Target, budget: int) -> bool:
    steps = plan_worlds(worlds, wanted, budget)
    return any(worlds[step.index].write(step, wanted.get(step.index)) for step in steps)


def settle(worlds: Mapping[int, World], wanted: Target, budget: int, history: History | None = None) -> None:
    """Run to the end in a plain order; fails when there is none."""
    for _ in range(ENOUGH):
        wrote = _would_write(worlds, wanted, budget)
        events = [event for world in worlds.values() for event in world.events()]
        if not events and not wrote:
            return
        if events:
            events[0]()
        if history:
            history.check(worlds)
    raise AssertionError("the rollout does not end")


def assert_is(worlds: Mapping[int, World], wanted: Target) -> None:
    """Exactly what is wanted is there, and serves."""
    for index, world in worlds.items():
        target = wanted.get(index)
        assert {name: d.revision for name, d in world.engines.items()} == (target.engines if target else {})
        assert set(world.claims) == ({target.claim} if target and target.claim else set())
        assert world.serving is (target is not None)
        assert not world.taken_down
        if target:
            assert [pod.revision for pods in world.pods.values() for pod in pods] == [
                target.engines[name] for name, pods in world.pods.items() if pods
            ]


@settings(max_examples=200, deadline=None)
@given(data=st.data(), old=targets(), new=targets(), budget=st.integers(1, 2))
def test_every_order_of_events_keeps_the_rules_and_ends_as_wanted(
    data: st.DataObject, old: Target, new: Target, budget: int
):
    worlds = worlds_for(old, new)
    settle(worlds, old, budget)
    history = History()
    history.check(worlds)
    run(data, worlds, new, budget, history, turns=40)
    settle(worlds, new, budget, history)
    assert_is(worlds, new)
    assert all(count <= 1 for count in history.starts.values()), f"an engine was started twice: {history.starts}"


@settings(max_examples=150, deadline=None)
@given(data=st.data(), wishes=st.lists(targets(), min_size=2, max_size=4), budget=st.integers(1, 2))
def test_a_wish_that_changes_at_any_time_still_ends_as_the_last_one(
    data: st.DataObject, wishes: list[Target], budget: int
):
    worlds, history = worlds_for(*wishes), History()
    for wish in wishes:
        run(data, worlds, wish, budget, history, turns=15)
    settle(worlds, wishes[-1], budget, history)
    assert_is(worlds, wishes[-1])


@settings(max_examples=150, deadline=None)
@given(data=st.data(), old=targets(), new=targets(), budget=st.integers(1, 3))
def test_no_more_groups_are_taken_out_of_service_than_allowed(
    data: st.DataObject, old: Target, new: Target, budget: int
):
    worlds = worlds_for(old, new)
    settle(worlds, old, budget)
    kept = [index for index in old if index in new]
    for _ in range(60):
        for step in plan_worlds(worlds, new, budget):
            worlds[step.index].write(step, new.get(step.index))
        events = [event for world in worlds.values() for event in world.events()]
        if events:
            events[data.draw(st.integers(0, len(events) - 1))]()
        down = [index for index in kept if not worlds[index].serving]
        assert len(down) <= budget


@settings(max_examples=100, deadline=None)
@given(old=targets(), new=targets(), budget=st.integers(1, 2))
def test_engines_whose_template_stays_are_not_restarted(old: Target, new: Target, budget: int):
    worlds = worlds_for(old, new)
    settle(worlds, old, budget)
    before = {
        (index, name): id(pod) for index, world in worlds.items() for name, pods in world.pods.items() for pod in pods
    }
    kept_alive = [pod for world in worlds.values() for pods in world.pods.values() for pod in pods]
    settle(worlds, new, budget)
    for (index, name), identity in before.items():
        same = index in new and index in old and new[index].engines.get(name) == old[index].engines[name]
        if same:
            assert [id(pod) for pod in worlds[index].pods[name]] == [identity]
    assert len(kept_alive) == len(before)
