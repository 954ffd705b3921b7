"""Which object a child belongs to, and how to find all children of one."""

from __future__ import annotations

from typing import Any, NamedTuple

from phasewatt.api.v1alpha1 import KIND
from phasewatt.plan import names

MANAGED = f"{names.MANAGED_BY}={names.MANAGER}"
"""Label selector of everything that the operator makes."""


class Key(NamedTuple):
    """A DisaggregatedInference, the unit of work."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


def children_of(key: Key) -> str:
    """Label selector of all children of one object, in its namespace."""
    return f"{MANAGED},{names.OBJECT}={key.name}"


def owner_key(child: dict[str, Any]) -> Key | None:
    """Key of the object that the labels of a child name; None for a child that names none."""
    metadata = child["metadata"]
    name = metadata.get("labels", {}).get(names.OBJECT)
    return Key(metadata["namespace"], name) if name else None


def controller_uid(child: dict[str, Any]) -> str | None:
    """Uid of the controller among the owners of a child; None where nothing controls it."""
    owner = _controller(child)
    return str(owner["uid"]) if owner else None


def belongs_to_predecessor(child: dict[str, Any], obj: dict[str, Any]) -> bool:
    """Whether a child is controlled by an earlier object of the same name."""
    owner = _controller(child)
    same_name = owner is not None and (owner.get("kind"), owner.get("name")) == (KIND, obj["metadata"]["name"])
    return same_name and controller_uid(child) != obj["metadata"]["uid"]


def _controller(child: dict[str, Any]) -> dict[str, Any] | None:
    owners = child["metadata"].get("ownerReferences", ())
    return next((owner for owner in owners if owner.get("controller")), None)
