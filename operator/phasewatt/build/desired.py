"""All children of one object, as they should be once nothing is left to do. Order and content are deterministic."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from phasewatt.api.v1alpha1 import Spec
from phasewatt.build.claims import claim
from phasewatt.build.engines import engine_deployments
from phasewatt.build.labels import Owner
from phasewatt.build.router import router_deployment
from phasewatt.build.services import services
from phasewatt.plan.decisions import Decisions
from phasewatt.plan.topology import group_count
from phasewatt.plan.types import Manifest, Settings


@dataclass(frozen=True, slots=True)
class DesiredGroup:
    """Children of one group."""

    index: int
    claim: Manifest | None
    engines: tuple[Manifest, ...]
    router: Manifest


@dataclass(frozen=True, slots=True)
class Desired:
    """Children of one object; the Services stay while it is suspended."""

    services: tuple[Manifest, ...]
    groups: tuple[DesiredGroup, ...]

    def manifests(self) -> Iterator[Manifest]:
        """All of them, in the order in which they are created."""
        yield from self.services
        for group in self.groups:
            if group.claim:
                yield group.claim
            yield from group.engines
            yield group.router


def desired(owner: Owner, spec: Spec, decisions: Decisions, settings: Settings) -> Desired:
    groups = []
    for index in range(group_count(spec)):
        group_claim = claim(owner, spec, decisions, index)
        claim_name = group_claim["metadata"]["name"] if group_claim else None
        groups.append(
            DesiredGroup(
                index=index,
                claim=group_claim,
                engines=engine_deployments(owner, spec, decisions, settings, index, claim_name),
                router=router_deployment(owner, spec, decisions, settings, index),
            )
        )
    return Desired(services(owner), tuple(groups))
