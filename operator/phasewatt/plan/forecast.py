"""A small world in which the planner's steps come true, one event at a time.

It answers "what would this change do?" before anything is done: `phasewatt plan --from` prints it, and the tests of the
planner let its events happen in every order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from phasewatt.plan.live import Wanted
from phasewatt.plan.rollout import (
    ClaimState,
    EngineState,
    GroupState,
    GroupStep,
    RouterState,
    RouterStep,
    next_steps,
)

LONGEST = 10_000
"""Steps after which a forecast gives up; a rollout of the largest object takes a few hundred."""


@dataclass(slots=True)
class Pod:
    revision: str
    claim: str | None
    """Claim that the pod holds its GPUs by."""
    ready: bool = False
    stopping: bool = False


@dataclass(slots=True)
class Deployment:
    revision: str
    claim: str | None
    replicas: int


class Written(NamedTuple):
    """What was asked of the API server for one group; Deployments as revision and replicas."""

    engines: dict[str, tuple[str, int]]
    router: tuple[str, int] | None
    claims: dict[str, bool]
    taken_down: bool


class Move(NamedTuple):
    """One step that changes something, and what it changes in words."""

    step: GroupStep
    changes: tuple[str, ...]


@dataclass(slots=True)
class World:
    """One group of an object in an imagined cluster."""

    index: int
    engines: dict[str, Deployment] = field(default_factory=dict)
    pods: dict[str, list[Pod]] = field(default_factory=dict)
    claims: dict[str, bool] = field(default_factory=dict)
    """Whether each claim is on its way out."""
    router: Deployment | None = None
    router_pods: list[Pod] = field(default_factory=list)
    taken_down: bool = False

    @property
    def serving(self) -> bool:
        return any(pod.ready and not pod.stopping for pod in self.router_pods)

    def observe(self, wanted: Wanted | None) -> GroupState:
        """The group as the planner would see it."""
        hashes = wanted.engines if wanted else {}
        known = [*hashes, *sorted({*self.engines, *(n for n, pods in self.pods.items() if pods)} - set(hashes))]
        return GroupState(
            index=self.index,
            wanted=wanted is not None,
            engines=tuple(self._engine(name, hashes.get(name)) for name in known),
            router=RouterState(
                exists=self.router is not None,
                replicas=self.router.replicas if self.router else 0,
                pods=len(self.router_pods),
                ready=self.serving,
                taken_down=self.taken_down and self.router is not None,
            ),
            claim=wanted.claim if wanted else None,
            claims=tuple(ClaimState(name, going) for name, going in sorted(self.claims.items())),
        )

    def _engine(self, name: str, wanted: str | None) -> EngineState:
        pods, live = self.pods.get(name, []), self.engines.get(name)
        return EngineState(
            name=name,
            wanted=wanted,
            live=live.revision if live else None,
            replicas=live.replicas if live else 0,
            pods=len(pods),
            stale_pods=sum(pod.revision != wanted for pod in pods),
            ready=any(pod.ready and not pod.stopping and pod.revision == wanted for pod in pods),
        )

    def write(self, step: GroupStep, wanted: Wanted | None, router_replicas: int = 1) -> bool:
        """Do what a step says, as the API server would; whether that changed anything."""
        before = self.written()
        if wanted:
            if step.apply_claim and wanted.claim:
                self.claims.setdefault(wanted.claim, False)
            for name, replicas in step.engines.items():
                self.engines[name] = Deployment(wanted.engines[name], wanted.claim, replicas)
            if step.router is not RouterStep.LEAVE:
                replicas = router_replicas if step.router is RouterStep.SERVE else 0
                self.router = Deployment(wanted.router, None, replicas)
                self.taken_down = step.taken_down
        for name in step.delete_engines:
            self.engines.pop(name, None)
        for name in step.delete_claims:
            self.claims[name] = True
        if step.delete_router:
            self.router, self.taken_down = None, False
        return self.written() != before

    def written(self) -> Written:
        """What the operator asked for so far."""
        engines = {name: (d.revision, d.replicas) for name, d in self.engines.items()}
        router = (self.router.revision, self.router.replicas) if self.router else None
        return Written(engines, router, dict(self.claims), self.taken_down)

    def events(self) -> Iterator[Callable[[], None]]:
        """What the cluster may do next by itself, in no particular order."""
        for name in {**self.engines, **self.pods}:
            yield from self._engine_events(name, self.pods.setdefault(name, []), self.engines.get(name))
        yield from self._router_events()
        for claim, going in list(self.claims.items()):
            held = any(pod.claim == claim for pods in self.pods.values() for pod in pods)
            if going and not held:
                yield lambda claim=claim: self._forget(claim)  # type: ignore[misc]

    def _forget(self, claim: str) -> None:
        del self.claims[claim]

    def _engine_events(self, name: str, pods: list[Pod], live: Deployment | None) -> Iterator[Callable[[], None]]:
        for pod in pods:
            unwanted = live is None or live.replicas == 0 or pod.revision != live.revision
            if pod.stopping:
                yield lambda pod=pod: pods.remove(pod)  # type: ignore[misc]
            elif unwanted:
                yield lambda pod=pod: setattr(pod, "stopping", True)  # type: ignore[misc]
            elif not pod.ready:
                yield lambda pod=pod: setattr(pod, "ready", True)  # type: ignore[misc]
        startable = live is not None and live.replicas and not pods
        if live and startable and (live.claim is None or self.claims.get(live.claim) is False):
            yield lambda: pods.append(Pod(live.revision, live.claim))

    def _router_events(self) -> Iterator[Callable[[], None]]:
        pods, live = self.router_pods, self.router
        current = [pod for pod in pods if live and pod.revision == live.revision and not pod.stopping]
        healthy = bool(self.engines) and all(any(p.ready for p in self.pods.get(name, [])) for name in self.engines)
        for pod in pods:
            outdated = live is None or live.replicas == 0 or (pod not in current and any(c.ready for c in current))
            if pod.stopping:
                yield lambda pod=pod: pods.remove(pod)  # type: ignore[misc]
            elif outdated:
                yield lambda pod=pod: setattr(pod, "stopping", True)  # type: ignore[misc]
            elif pod.ready is not healthy:
                yield lambda pod=pod: setattr(pod, "ready", healthy)  # type: ignore[misc]
        if live and len(current) < live.replicas:
            yield lambda: pods.append(Pod(live.revision, None))


def plan_worlds(
    worlds: Mapping[int, World], wanted: Mapping[int, Wanted], max_unavailable: int
) -> tuple[GroupStep, ...]:
    """One pass of the planner over imagined groups."""
    states = [world.observe(wanted.get(index)) for index, world in sorted(worlds.items())]
    return next_steps(states, max_unavailable)


def worlds_for(*targets: Mapping[int, Wanted]) -> dict[int, World]:
    """Empty groups for every index that any of the targets names."""
    return {index: World(index) for index in sorted({index for target in targets for index in target})}


def forecast(worlds: Mapping[int, World], wanted: Mapping[int, Wanted], max_unavailable: int) -> list[tuple[Move, ...]]:
    """The passes that write something, until nothing is left to do; `worlds` end up in the final state.

    Between two passes everything that the cluster can do by itself comes true.
    """
    passes: list[tuple[Move, ...]] = []
    for _ in range(LONGEST):
        moves = []
        for step in plan_worlds(worlds, wanted, max_unavailable):
            world = worlds[step.index]
            before = world.written()
            if world.write(step, wanted.get(step.index)):
                moves.append(Move(step, tuple(describe(before, world.written()))))
        if moves:
            passes.append(tuple(moves))
        if not _come_true(worlds) and not moves:
            return passes
    raise RuntimeError(f"the rollout does not end within {LONGEST} passes")


def _come_true(worlds: Mapping[int, World]) -> bool:
    moved = False
    while events := [event for world in worlds.values() for event in world.events()]:
        events[0]()
        moved = True
    return moved


def describe(before: Written, after: Written) -> Iterator[str]:
    """What one step changes, in a few words each."""
    if after.router != before.router:
        yield _router_change(before.router, after.router)
    stopped = [n for n, (_, count) in after.engines.items() if count == 0 and before.engines.get(n) != after.engines[n]]
    started = [n for n, (_, count) in after.engines.items() if count > 0 and before.engines.get(n) != after.engines[n]]
    removed = [n for n in before.engines if n not in after.engines]
    released = [n for n, going in after.claims.items() if going and not before.claims.get(n)]
    claimed = [n for n in after.claims if n not in before.claims]
    changes = {"stop": stopped, "remove": removed, "release": released, "claim": claimed, "run": started}
    for verb, things in changes.items():
        if things:
            yield f"{verb} {', '.join(things)}"


def _router_change(before: tuple[str, int] | None, after: tuple[str, int] | None) -> str:
    if after is None:
        return "let its router finish its requests and remove it"
    if after[1] == 0:
        return "let its router finish its requests and stop"
    if before and before[1] > 0:
        return "replace its router without a gap"
    return "route requests to it"
