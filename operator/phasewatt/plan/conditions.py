"""The conditions of an object: one small pure check each, which answers with status, reason and what to do.

`Ready`, `Reconciling` and `Stalled` follow kstatus (kubernetes-sigs/cli-utils pkg/kstatus). Stalled is for what heals
only by a change of the object or of what it refers to. Lack of GPUs heals once some are free: it is Reconciling.
"""

from __future__ import annotations

from typing import NamedTuple

from phasewatt.api.v1alpha1 import Role
from phasewatt.plan.kv import verdict
from phasewatt.plan.problems import Problem
from phasewatt.plan.rollout import Phase
from phasewatt.plan.situation import ROUTER, Situation
from phasewatt.plan.types import Manifest

AVAILABLE = {
    Role.PREFILL: "PrefillAvailable",
    Role.DECODE: "DecodeAvailable",
    Role.COLOCATED: "EnginesAvailable",
}
ROLLING = {Phase.WAITING, Phase.DRAINING, Phase.STOPPING, Phase.UPDATING}


class Check(NamedTuple):
    """The answer of one check."""

    type: str
    status: str
    reason: str
    message: str

    def condition(self, generation: int | None) -> Manifest:
        return {**self._asdict(), "observedGeneration": generation}


def checks(situation: Situation) -> tuple[Check, ...]:
    """All conditions, in the order in which they read best."""
    problems = situation.problems()
    found = [
        ready(situation, problems),
        reconciling(situation, problems),
        stalled(problems),
        *(available(situation, role) for role in situation.spec.roles()),
        router_available(situation),
        placement_satisfied(situation),
        kv_transfer_verified(situation),
    ]
    return tuple(check for check in found if check)


def ready(situation: Situation, problems: tuple[Problem, ...]) -> Check:
    """True when every wanted group serves at the wanted revision."""
    wanted = len(situation.wanted)
    stopping = bool(situation.steps)
    if situation.spec.suspend:
        rest = "engines finish their requests and stop." if stopping else "no engine runs, and the GPUs are free."
        return Check("Ready", "False", "Suspended", f"spec.suspend is true: {rest}")
    if wanted == 0:
        rest = "engines finish their requests and stop." if stopping else "no engine runs."
        return Check("Ready", "False", "ScaledToZero", f"spec.replicas is 0: {rest} Scale up to serve requests.")
    serving = sum(state.router.serving for state in situation.wanted)
    count = f"{serving} of {wanted} {'group serves' if wanted == 1 else 'groups serve'} requests."
    if all(situation.phase(state.index) is Phase.READY for state in situation.wanted):
        return Check("Ready", "True", "Serving", count)
    if problems:
        return Check("Ready", "False", problems[0].reason, f"{count} {_told(problems)}")
    reason, message = _progress(situation)
    return Check("Ready", "False", reason, f"{count} {message}")


def reconciling(situation: Situation, problems: tuple[Problem, ...]) -> Check:
    """True while something is under way that needs nobody."""
    if any(problem.stalls for problem in problems):
        return Check("Reconciling", "False", problems[0].reason, "Nothing goes on until what Stalled says is changed.")
    if problems:
        return Check("Reconciling", "True", problems[0].reason, _told(problems))
    if any(situation.phase(step.index) is not Phase.READY for step in situation.steps):
        return Check("Reconciling", "True", *_progress(situation))
    for state in situation.wanted:
        serving, updated = situation.router_counts(state.index)
        pods = len(situation.group(state.index).router_pods)
        if not pods == serving == updated == situation.spec.router.replicas:
            return Check(
                "Reconciling",
                "True",
                "RouterRolling",
                "Routers are replaced one by one; requests are served all the time.",
            )
    return Check("Reconciling", "False", "Done", "Everything is as the spec asks.")


def stalled(problems: tuple[Problem, ...]) -> Check:
    hopeless = [problem for problem in problems if problem.stalls]
    if hopeless:
        return Check("Stalled", "True", hopeless[0].reason, _told(tuple(hopeless)))
    return Check("Stalled", "False", "NotStalled", "Nothing waits for a change by someone.")


def available(situation: Situation, role: Role) -> Check:
    """Whether all engines of one role, in all groups, answer requests."""
    engines = [engine for engine in situation.decisions.engines if engine.role is role]
    total = len(engines) * len(situation.wanted)
    answering = sum(situation.engine_ready(state.index, engine) for state in situation.wanted for engine in engines)
    type_, count = AVAILABLE[role], f"{answering} of {total} {role.value} engines answer requests."
    if total == 0:
        return Check(type_, "False", "NoneWanted", "No group is wanted.")
    if answering == total:
        return Check(type_, "True", "AllReady", count)
    if problems := situation.problems(role):
        return Check(type_, "False", problems[0].reason, f"{count} {_told(problems)}")
    return Check(type_, "False", "Starting", "Not all of them are ready yet.")


def router_available(situation: Situation) -> Check:
    """Whether the endpoint takes requests: a router is ready while a prefill and a decode engine are healthy."""
    serving = [state.index for state in situation.wanted if state.router.serving]
    if serving:
        return Check("RouterAvailable", "True", "Serving", "The endpoint takes requests.")
    if not situation.wanted:
        return Check("RouterAvailable", "False", "NoneWanted", "No group is wanted.")
    if problems := situation.problems(ROUTER):
        return Check("RouterAvailable", "False", problems[0].reason, _told(problems))
    return Check("RouterAvailable", "False", "WaitingForEngines", "A router gets ready once its engines are healthy.")


def placement_satisfied(situation: Situation) -> Check | None:
    """Whether the GPUs of each group are as near to one another as wished; absent where nothing is wished."""
    pairing = situation.decisions.pairing
    if pairing is None or not situation.wanted:
        return None
    allocation = situation.decisions.allocation
    why = f"Pairing {pairing.value.value}: {pairing.reason} Allocation {allocation.value.value}: {allocation.reason}"
    satisfied = {
        state.index: placed.satisfies(pairing.value) if (placed := situation.placements.get(state.index)) else None
        for state in situation.wanted
    }
    apart = [index for index, answer in satisfied.items() if answer is False]
    if apart:
        groups = ", ".join(map(str, apart))
        return Check(
            "PlacementSatisfied",
            "False",
            "Apart",
            f"The engines of group {groups} are farther from one another than {pairing.value.value}. {why}",
        )
    if any(answer is None for answer in satisfied.values()):
        return Check("PlacementSatisfied", "Unknown", "NotPlaced", f"Not every group has its GPUs yet. {why}")
    return Check("PlacementSatisfied", "True", "Placed", why)


def kv_transfer_verified(situation: Situation) -> Check | None:
    """Whether decode really gets its KV cache from prefill; absent where none moves."""
    transport = situation.decisions.transport
    if transport is None:
        return None
    found = verdict(situation.traffic(), transport.value)
    return Check("KVTransferVerified", found.status, found.reason, found.message)


def _progress(situation: Situation) -> tuple[str, str]:
    """Reason and message of what goes on by itself."""
    phases = {step.index: step.phase for step in situation.steps}
    rolling = [f"group {index} is {phase.value.lower()}" for index, phase in phases.items() if phase in ROLLING]
    if rolling:
        return "RollingOut", f"A change is being rolled out: {', '.join(rolling)}."
    starting = [str(index) for index, phase in phases.items() if phase is Phase.STARTING]
    if starting:
        noun = "Group" if len(starting) == 1 else "Groups"
        return "Starting", f"{noun} {', '.join(starting)}: engines load the model, then the router gets ready."
    removing = ", ".join(str(index) for index, phase in phases.items() if phase is Phase.REMOVING)
    return "Removing", f"Surplus groups finish their requests and go: {removing}."


def _told(problems: tuple[Problem, ...]) -> str:
    more = len(problems) - 1
    return problems[0].message + (f" (And {more} more problem{'s' if more > 1 else ''}.)" if more else "")
