"""The next step of every group of an object: a pure planner that is asked again after each observation.

Each answer is derived from what is there, so an operator that dies at any step goes on from it. The idea is that of
lws DisaggregatedSet (pkg/controllers/disaggregatedset/planner.go); the rules are ours:

- A group that does not exist yet is created as a whole.
- A change of engines or GPUs of a group that exists takes the group out of service first: its router goes, and finishes
  what is in flight; the changed engines stop and free their GPUs; old claims go; the new revision starts; when all of
  it is ready the router comes back. So no GPU is needed on top, and no old prefill ever serves with a new decode.
- At most `max_unavailable` serving groups are out at once. Groups that do not serve anyway go first and at no cost.
- Engines that do not change are left alone. A change of the router alone rolls without a gap.
- A surplus group goes router first, then engines, then claim.

No clock is needed: the longest drain is the router pod's terminationGracePeriodSeconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class EngineState:
    """One engine Deployment. `wanted` and `live` are template hashes; None means not wanted, or not there."""

    name: str
    wanted: str | None
    live: str | None
    replicas: int = 0
    pods: int = 0
    """Pods that hold or will hold resources, those on their way out too."""
    stale_pods: int = 0
    """Of `pods`, those of another revision than the wanted one."""
    ready: bool = False
    """Whether the only pod is of the wanted revision and ready."""

    @property
    def changed(self) -> bool:
        return self.live is not None and self.live != self.wanted

    @property
    def leftover(self) -> bool:
        return self.wanted is None and (self.live is not None or self.pods > 0)


@dataclass(frozen=True, slots=True)
class RouterState:
    """The router Deployment of one group."""

    exists: bool = False
    replicas: int = 0
    pods: int = 0
    ready: bool = False
    """Whether at least one pod is ready: the group serves."""
    taken_down: bool = False
    """Whether a rollout drained this group while it served; the mark goes once it serves again."""

    @property
    def serving(self) -> bool:
        """Whether the group serves and is meant to."""
        return self.ready and self.replicas > 0


@dataclass(frozen=True, slots=True)
class ClaimState:
    name: str
    terminating: bool = False


@dataclass(frozen=True, slots=True)
class GroupState:
    """All that the planner needs to know of one group."""

    index: int
    wanted: bool
    engines: tuple[EngineState, ...] = ()
    router: RouterState = RouterState()
    claim: str | None = None
    """Name of the wanted claim; None where GPUs do not come by DRA."""
    claims: tuple[ClaimState, ...] = ()

    @property
    def stale_claims(self) -> tuple[ClaimState, ...]:
        """Claims of another revision, and the wanted one once it was deleted: it cannot serve a new pod any more."""
        return tuple(claim for claim in self.claims if claim.name != self.claim or claim.terminating)

    @property
    def dirty(self) -> bool:
        """Whether the group holds anything of another revision that is still to be changed."""
        return bool(self.stale_claims) or any(engine.changed or engine.leftover for engine in self.engines)

    @property
    def engines_ready(self) -> bool:
        return all(engine.ready for engine in self.engines if engine.wanted)

    @property
    def settled(self) -> bool:
        """Whether every pod that must be gone before the wanted revision may start is gone."""
        if self.stale_claims:
            return not any(engine.pods for engine in self.engines)
        return not any(engine.stale_pods or (engine.leftover and engine.pods) for engine in self.engines)


class Phase(StrEnum):
    """What a group is doing, as `status.groups[].phase` shows it."""

    STARTING = "Starting"
    READY = "Ready"
    WAITING = "Waiting"
    DRAINING = "Draining"
    STOPPING = "Stopping"
    UPDATING = "Updating"
    REMOVING = "Removing"


class RouterStep(StrEnum):
    LEAVE = "leave"
    SERVE = "serve"
    DRAIN = "drain"
    """Scale to zero: the pods finish what is in flight and go."""


@dataclass(frozen=True, slots=True)
class GroupStep:
    """What to write for one group now. Engines map to the replicas to apply them with."""

    index: int
    phase: Phase
    apply_claim: bool = False
    engines: Mapping[str, int] = field(default_factory=dict)
    router: RouterStep = RouterStep.LEAVE
    taken_down: bool = False
    delete_engines: tuple[str, ...] = ()
    delete_claims: tuple[str, ...] = ()
    delete_router: bool = False


def next_steps(groups: Iterable[GroupState], max_unavailable: int) -> tuple[GroupStep, ...]:
    """One step per group, in order of index."""
    groups = tuple(groups)
    admitted = _admit(groups, max_unavailable)
    return tuple(_step(group, admitted) for group in sorted(groups, key=lambda group: group.index))


def _step(group: GroupState, admitted: frozenset[int]) -> GroupStep:
    if not group.wanted:
        return _remove(group)
    if not group.dirty:
        return _converge(group)
    if group.index not in admitted:
        return GroupStep(group.index, Phase.WAITING)
    return _replace(group)


def _admit(groups: tuple[GroupState, ...], max_unavailable: int) -> frozenset[int]:
    """Indices of the dirty groups that may be out of service now; of the serving ones the highest index goes first."""
    wanted = [group for group in groups if group.wanted]
    dirty = [group for group in wanted if group.dirty]
    out = {group.index for group in dirty if not group.router.serving}
    budget = max_unavailable - sum(group.router.taken_down and not group.router.serving for group in wanted)
    serving = sorted((group.index for group in dirty if group.index not in out), reverse=True)
    return frozenset(out | set(serving[: max(0, budget)]))


def _converge(group: GroupState) -> GroupStep:
    """Nothing of another revision is left to change: bring everything up, the router last if it was drained."""
    router = group.router
    engines = {
        # A pod of another revision below a Deployment of the wanted one goes only when the Deployment lets it go.
        e.name: 1 if group.settled else 0 if e.stale_pods else e.replicas
        for e in group.engines
        if e.wanted and (e.live or group.settled)
    }
    drained = router.exists and router.replicas == 0
    may_serve = group.settled and (group.engines_ready if drained else True)
    rolling = drained or router.taken_down
    if not may_serve:
        phase = Phase.UPDATING if group.settled else Phase.STOPPING
    elif group.engines_ready and router.serving:
        phase = Phase.READY
    else:
        phase = Phase.UPDATING if rolling else Phase.STARTING
    return GroupStep(
        group.index,
        phase,
        apply_claim=group.claim is not None,
        engines=engines,
        router=RouterStep.SERVE if may_serve else RouterStep.DRAIN,
        taken_down=router.taken_down and not router.serving,
    )


def _replace(group: GroupState) -> GroupStep:
    """One step of bringing a group from one revision to the next."""
    router = group.router
    taken_down = router.taken_down or router.serving
    if router.replicas > 0 or router.pods > 0:
        step = RouterStep.DRAIN if router.exists else RouterStep.LEAVE
        return GroupStep(group.index, Phase.DRAINING, router=step, taken_down=taken_down)
    kept = RouterStep.DRAIN if router.exists else RouterStep.LEAVE
    leftovers = tuple(engine.name for engine in group.engines if engine.wanted is None and engine.live)
    if not group.settled or leftovers:
        stop_all = bool(group.stale_claims)
        stopping = {e.name: 0 for e in group.engines if e.wanted and e.live and (stop_all or e.changed)}
        return GroupStep(
            group.index,
            Phase.STOPPING,
            engines=stopping,
            router=kept,
            taken_down=taken_down,
            delete_engines=leftovers,
        )
    if group.stale_claims:
        names = tuple(claim.name for claim in group.stale_claims if not claim.terminating)
        return GroupStep(group.index, Phase.STOPPING, router=kept, taken_down=taken_down, delete_claims=names)
    return GroupStep(
        group.index,
        Phase.UPDATING,
        apply_claim=group.claim is not None,
        engines={engine.name: 1 for engine in group.engines if engine.wanted},
        router=kept,
        taken_down=taken_down,
    )


def _remove(group: GroupState) -> GroupStep:
    if group.router.exists or group.router.pods:
        return GroupStep(group.index, Phase.REMOVING, delete_router=group.router.exists)
    live = tuple(engine.name for engine in group.engines if engine.live)
    if live or any(engine.pods for engine in group.engines):
        return GroupStep(group.index, Phase.REMOVING, delete_engines=live)
    names = tuple(claim.name for claim in group.claims if not claim.terminating)
    return GroupStep(group.index, Phase.REMOVING, delete_claims=names)
