"""What the operator would make of an object, and in which steps, without making it. Pure; the operator's own code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml

from phasewatt.api.v1alpha1 import KIND
from phasewatt.controllers.decide import Resolution, resolve
from phasewatt.plan.decisions import Choice, Refusal
from phasewatt.plan.forecast import forecast, worlds_for
from phasewatt.plan.types import Inventory, Manifest, Observed, Settings


class UnusableError(Exception):
    """An object, or the file that it is in, cannot be used; the message says what to change."""


@dataclass(frozen=True, slots=True)
class Preview:
    """One object: what was decided and why, all its children, and the steps that lead there with what each changes."""

    name: str
    namespace: str
    decisions: dict[str, Choice[Any]]
    manifests: tuple[Manifest, ...]
    rollout: tuple[tuple[str, ...], ...]

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "namespace": self.namespace,
            "decisions": {key: {"value": str(c.value), "reason": c.reason} for key, c in self.decisions.items()},
            "rollout": [list(step) for step in self.rollout],
            "manifests": list(self.manifests),
        }


def read_objects(text: str, namespace: str | None = None) -> list[Manifest]:
    """The DisaggregatedInference objects among the YAML (or JSON) documents of a text; other kinds are left out.

    `namespace` is for objects that name none. Raises UnusableError.
    """
    try:
        documents = [document for document in yaml.safe_load_all(text) if document is not None]
    except yaml.YAMLError as error:
        raise UnusableError(f"not YAML: {error}") from None
    if not all(isinstance(document, dict) for document in documents):
        raise UnusableError("every YAML document must be a Kubernetes object, with apiVersion, kind, metadata and spec")
    found = [document for document in documents if document.get("kind") == KIND]
    if not found:
        raise UnusableError(f"there is no object of kind {KIND} in it")
    return [_with_defaults(document, namespace) for document in found]


def preview(obj: Manifest, settings: Settings, *, inventory: Inventory, before: Observed | None = None) -> Preview:
    """Preview one object. `before` is the object that it replaces, with its live children where there are any.

    Raises UnusableError where the object cannot work on a cluster with this inventory.
    """
    children = {"children": before.children, "pods": before.pods} if before else {}
    resolution = _resolved(Observed(obj=obj, inventory=inventory, **children), settings)  # type: ignore[arg-type]
    old = _resolved(before, settings) if before else None
    return Preview(
        name=obj["metadata"]["name"],
        namespace=obj["metadata"]["namespace"],
        decisions=_decisions(resolution),
        manifests=tuple(resolution.children.manifests()),
        rollout=_rollout(old, resolution),
    )


def _with_defaults(document: Manifest, namespace: str | None) -> Manifest:
    metadata = document.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
        raise UnusableError("metadata.name is missing")
    return {**document, "metadata": {**metadata, "namespace": metadata.get("namespace") or namespace or "default"}}


def _resolved(observed: Observed, settings: Settings) -> Resolution:
    resolution = resolve(observed, settings)
    if isinstance(resolution, Refusal):
        raise UnusableError(f"{observed.obj['metadata']['name']}: {resolution.message}")
    return resolution


def _decisions(resolution: Resolution) -> dict[str, Choice[Any]]:
    made = resolution.decisions
    choices: dict[str, Choice[Any] | None] = {
        "mode": made.mode,
        "allocation": made.allocation,
        "pairing": made.pairing,
        "backend": made.backend,
        "transport": made.transport,
    }
    return {key: choice for key, choice in choices.items() if choice is not None}


def _rollout(old: Resolution | None, new: Resolution) -> tuple[tuple[str, ...], ...]:
    before, after = old.wanted() if old else {}, new.wanted()
    limit = new.obj.spec.rollout.max_unavailable
    worlds = worlds_for(before, after)
    forecast(worlds, before, limit)
    passes = [
        tuple(f"group {move.step.index}: {'; '.join(move.changes)}" for move in moves if move.changes)
        for moves in forecast(worlds, after, limit)
    ]
    return tuple(lines for lines in passes if lines)
