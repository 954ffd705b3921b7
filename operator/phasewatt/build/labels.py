"""Metadata that all children have in common, and the hashes that tell one revision of a child from the next."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from phasewatt.api.v1alpha1 import API_VERSION, KIND, DisaggregatedInference
from phasewatt.plan import names
from phasewatt.plan.types import Manifest


@dataclass(frozen=True, slots=True)
class Owner:
    """The object that children belong to. `uid` is empty for a plan without a cluster, which then names no owner."""

    name: str
    namespace: str
    uid: str = ""

    @classmethod
    def of(cls, obj: DisaggregatedInference) -> Owner:
        metadata = obj.metadata
        return cls(str(metadata["name"]), str(metadata.get("namespace") or "default"), str(metadata.get("uid") or ""))


def labels(owner: Owner, app: str, **more: str) -> dict[str, str]:
    """Labels of a child; `more` is keyed by `group`, `role` and `engine`."""
    extra = {"group": names.GROUP_INDEX, "role": names.ROLE, "engine": names.ENGINE}
    return {
        names.MANAGED_BY: names.MANAGER,
        names.APP_NAME: app,
        names.INSTANCE: owner.name,
        names.OBJECT: owner.name,
        **{extra[key]: value for key, value in more.items()},
    }


def metadata(owner: Owner, name: str, labels: dict[str, str]) -> Manifest:
    """`blockOwnerDeletion` stays false: true would need the right to update finalizers, and nothing waits for it."""
    result: Manifest = {"name": name, "namespace": owner.namespace, "labels": labels}
    if owner.uid:
        result["ownerReferences"] = [
            {
                "apiVersion": API_VERSION,
                "kind": KIND,
                "name": owner.name,
                "uid": owner.uid,
                "controller": True,
                "blockOwnerDeletion": False,
            }
        ]
    return result


def digest(value: Any) -> str:
    """Ten hex digits that stand for a JSON value, whatever the order of its keys."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:10]


def with_template_hash(template: Manifest) -> Manifest:
    """The pod template with its own hash among its annotations."""
    annotations = {**template["metadata"].get("annotations", {}), names.TEMPLATE_HASH: digest(template)}
    return {**template, "metadata": {**template["metadata"], "annotations": annotations}}
