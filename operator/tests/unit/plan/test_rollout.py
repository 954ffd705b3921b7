"""Whole sequences of rollout steps, pinned."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from phasewatt.plan.forecast import World, forecast, plan_worlds, worlds_for
from phasewatt.plan.live import Wanted
from phasewatt.plan.rollout import GroupStep, Phase, RouterStep

Target = Mapping[int, Wanted]


def target(groups: int, revision: str = "a", claim: str | None = "c", router: str = "r", engines: str = "PD") -> Target:
    """Groups with an engine per letter; an upper-case one follows `revision`, a lower-case one stays."""
    hashes = {letter: f"{revision}" if letter.isupper() else "fixed" for letter in engines}
    return {index: Wanted(hashes, router, f"{claim}-g{index}" if claim else None) for index in range(groups)}


def line(step: GroupStep) -> str:
    """A step in shorthand: `g0 Updating claim P=1 D=1 router=serve -claim/x`."""
    words = [f"g{step.index}", step.phase.value]
    words += ["claim"] if step.apply_claim else []
    words += [f"{name}={replicas}" for name, replicas in step.engines.items()]
    words += [f"router={step.router.value}"] if step.router is not RouterStep.LEAVE else []
    words += ["taken-down"] if step.taken_down else []
    words += ["-router"] if step.delete_router else []
    words += [f"-{name}" for name in (*step.delete_engines, *step.delete_claims)]
    return " ".join(words)


def lines(worlds: dict[int, World], wanted: Target, max_unavailable: int = 1) -> list[list[str]]:
    return [[line(move.step) for move in moves] for moves in forecast(worlds, wanted, max_unavailable)]


def running(wanted: Target, more: Target | None = None) -> dict[int, World]:
    """Groups that serve at `wanted`, and empty ones for whatever else `more` names."""
    worlds = worlds_for(wanted, more or {})
    forecast(worlds, wanted, 1)
    assert all(worlds[index].serving for index in wanted)
    return worlds


def test_a_new_group_is_created_in_one_pass():
    wanted = target(1)
    assert lines(worlds_for(wanted), wanted) == [["g0 Starting claim P=1 D=1 router=serve"]]


def test_nothing_is_written_once_everything_is_as_wanted():
    wanted = target(3)
    worlds = running(wanted)
    assert lines(worlds, wanted) == []
    assert [step.phase for step in plan_worlds(worlds, wanted, 1)] == [Phase.READY] * 3


def test_a_change_of_engines_drains_stops_starts_and_serves_again():
    worlds = running(target(1))
    assert lines(worlds, target(1, "b")) == [
        ["g0 Draining router=drain taken-down"],
        ["g0 Stopping P=0 D=0 router=drain taken-down"],
        ["g0 Updating claim P=1 D=1 router=drain taken-down"],
        ["g0 Updating claim P=1 D=1 router=serve taken-down"],
        ["g0 Ready claim P=1 D=1 router=serve"],
    ]


def test_a_change_of_the_claim_frees_the_old_gpus_before_it_asks_for_new_ones():
    worlds = running(target(1))
    assert lines(worlds, target(1, "b", claim="d")) == [
        ["g0 Draining router=drain taken-down"],
        ["g0 Stopping P=0 D=0 router=drain taken-down"],
        ["g0 Stopping router=drain taken-down -c-g0"],
        ["g0 Updating claim P=1 D=1 router=drain taken-down"],
        ["g0 Updating claim P=1 D=1 router=serve taken-down"],
        ["g0 Ready claim P=1 D=1 router=serve"],
    ]


def test_engines_that_do_not_change_are_not_touched():
    worlds = running(target(1, engines="pD"))
    passes = lines(worlds, target(1, "b", engines="pD"))
    assert passes[1] == ["g0 Stopping D=0 router=drain taken-down"]
    assert not any("p=0" in text for passed in passes for text in passed)


def test_a_change_of_the_router_alone_touches_no_engine_and_drains_nothing():
    worlds = running(target(2))
    pods = {index: list(world.pods["P"]) for index, world in worlds.items()}
    assert lines(worlds, target(2, router="s")) == [
        ["g0 Ready claim P=1 D=1 router=serve", "g1 Ready claim P=1 D=1 router=serve"]
    ]
    assert {index: list(world.pods["P"]) for index, world in worlds.items()} == pods


def test_one_group_after_the_other_highest_first():
    worlds = running(target(2))
    assert [[" ".join(text.split()[:2]) for text in passed] for passed in lines(worlds, target(2, "b"))] == [
        ["g1 Draining"],
        ["g1 Stopping"],
        ["g1 Updating"],
        ["g1 Updating"],
        ["g0 Draining", "g1 Ready"],
        ["g0 Stopping"],
        ["g0 Updating"],
        ["g0 Updating"],
        ["g0 Ready"],
    ]


def test_as_many_groups_at_once_as_allowed():
    worlds = running(target(3))
    assert lines(worlds, target(3, "b"), max_unavailable=2)[0] == [
        "g1 Draining router=drain taken-down",
        "g2 Draining router=drain taken-down",
    ]


def test_a_group_that_does_not_serve_goes_first_and_costs_nothing():
    worlds = running(target(3))
    worlds[1].router_pods.clear()
    steps = plan_worlds(worlds, target(3, "b"), 1)
    assert [line(step) for step in steps] == [
        "g0 Waiting",
        "g1 Draining router=drain",
        "g2 Draining router=drain taken-down",
    ]


def test_a_broken_revision_takes_down_no_more_than_allowed():
    worlds, wanted = running(target(3)), target(3, "b")
    for _ in range(200):
        for step in plan_worlds(worlds, wanted, 1):
            worlds[step.index].write(step, wanted[step.index])
        for world in worlds.values():
            for event in list(world.events()):
                event()
            for pod in (pod for pods in world.pods.values() for pod in pods if pod.revision == "b"):
                pod.ready = False
            if any(pod.revision == "b" for pods in world.pods.values() for pod in pods):
                world.router_pods = [pod for pod in world.router_pods if not pod.ready]
    assert [worlds[index].serving for index in (0, 1, 2)] == [True, True, False]


def test_going_back_while_a_group_drains_brings_it_back_without_a_restart():
    worlds = running(target(1))
    pods = dict(worlds[0].pods)
    (step,) = plan_worlds(worlds, target(1, "b"), 1)
    worlds[0].write(step, target(1, "b")[0])
    assert lines(worlds, target(1)) == [
        ["g0 Updating claim P=1 D=1 router=serve taken-down"],
        ["g0 Ready claim P=1 D=1 router=serve"],
    ]
    assert worlds[0].pods == pods


def test_scaling_up_creates_at_once():
    worlds = running(target(1), target(3))
    assert lines(worlds, target(3)) == [
        ["g1 Starting claim P=1 D=1 router=serve", "g2 Starting claim P=1 D=1 router=serve"]
    ]


def test_scaling_down_goes_router_first_then_engines_then_claim():
    worlds = running(target(2))
    assert lines(worlds, target(1)) == [
        ["g1 Removing -router"],
        ["g1 Removing -D -P"],
        ["g1 Removing -c-g1"],
    ]
    assert worlds[0].serving
    assert not worlds[1].engines
    assert not worlds[1].claims


def test_engines_of_a_surplus_group_stay_until_its_router_has_finished():
    worlds = running(target(1))
    (step,) = plan_worlds(worlds, {}, 1)
    worlds[0].write(step, None)
    assert [line(step) for step in plan_worlds(worlds, {}, 1)] == ["g0 Removing"]
    worlds[0].router_pods.clear()
    assert [line(step) for step in plan_worlds(worlds, {}, 1)] == ["g0 Removing -D -P"]


def test_engines_of_a_changed_group_stay_until_its_router_has_finished():
    worlds, wanted = running(target(1)), target(1, "b")
    (step,) = plan_worlds(worlds, wanted, 1)
    worlds[0].write(step, wanted[0])
    (again,) = plan_worlds(worlds, wanted, 1)
    assert again.phase is Phase.DRAINING
    assert not again.engines


def test_suspending_removes_every_group():
    worlds = running(target(2))
    lines(worlds, {})
    assert not any(world.engines or world.claims or world.router for world in worlds.values())


def test_a_group_wanted_again_while_it_goes_is_back_without_engines_lost():
    worlds = running(target(1))
    (step,) = plan_worlds(worlds, {}, 1)
    worlds[0].write(step, None)
    assert lines(worlds, target(1)) == [["g0 Starting claim P=1 D=1 router=serve"]]


def test_engines_of_another_pod_layout_wait_until_the_old_ones_are_gone():
    worlds = running(target(1, engines="PD"))
    assert lines(worlds, target(1, "b", engines="S")) == [
        ["g0 Draining router=drain taken-down"],
        ["g0 Stopping router=drain taken-down -D -P"],
        ["g0 Updating claim S=1 router=drain taken-down"],
        ["g0 Updating claim S=1 router=serve taken-down"],
        ["g0 Ready claim S=1 router=serve"],
    ]


@pytest.mark.parametrize("missing", ["P", "D"])
def test_a_deleted_engine_is_back_at_once_without_a_drain(missing: str):
    worlds = running(target(1))
    del worlds[0].engines[missing]
    (step,) = plan_worlds(worlds, target(1), 1)
    assert step.engines[missing] == 1
    assert step.router is RouterStep.SERVE


def test_a_deleted_claim_that_is_in_use_is_replaced_by_a_drain():
    worlds = running(target(1))
    worlds[0].claims["c-g0"] = True
    assert lines(worlds, target(1)) == [
        ["g0 Draining router=drain taken-down"],
        ["g0 Stopping P=0 D=0 router=drain taken-down"],
        ["g0 Updating claim P=1 D=1 router=drain taken-down"],
        ["g0 Updating claim P=1 D=1 router=serve taken-down"],
        ["g0 Ready claim P=1 D=1 router=serve"],
    ]


def test_a_deleted_claim_that_is_not_in_use_is_back_at_once():
    worlds = running(target(1))
    worlds[0].claims.clear()
    (step,) = plan_worlds(worlds, target(1), 1)
    assert step.apply_claim


def test_a_scaled_engine_is_scaled_back():
    worlds = running(target(1))
    worlds[0].engines["P"].replicas = 3
    (step,) = plan_worlds(worlds, target(1), 1)
    assert step.engines == {"P": 1, "D": 1}
