"""Who wrote what, as the API server's own audit log tells it."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WRITE_VERBS = frozenset({"create", "update", "patch", "delete", "deletecollection"})

POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived", "ResponseStarted"],
    "rules": [
        {"level": "None", "verbs": ["get", "list", "watch"]},
        {"level": "None", "resources": [{"group": "coordination.k8s.io", "resources": ["leases"]}]},
        {"level": "Metadata"},
    ],
}
"""Metadata of every write but leases, once it is answered. Source: Kubernetes documentation, "Auditing"."""


@dataclass(frozen=True)
class Writes:
    """Counts of writes the API server answered, by whose they are and what they wrote."""

    by_who: Counter[str] = field(default_factory=Counter)
    by_operator: Counter[str] = field(default_factory=Counter)

    def __sub__(self, earlier: Writes) -> Writes:
        return Writes(self.by_who - earlier.by_who, self.by_operator - earlier.by_operator)


def read(log: Path) -> Writes:
    """Count the log's writes. Events are counted under their own name (`operator events`): they are not state."""
    by_who: Counter[str] = Counter()
    by_operator: Counter[str] = Counter()
    with log.open() as lines:
        for line in lines:
            entry = json.loads(line)
            if entry["verb"] not in WRITE_VERBS:
                continue
            resource = _resource(entry)
            events = " events" if resource.startswith("events") else ""
            who = _who(entry)
            by_who[who + events] += 1
            if who == "operator":
                by_operator[f"{entry['verb']} {resource}"] += 1
    return Writes(by_who, by_operator)


def _resource(entry: dict[str, Any]) -> str:
    reference = entry.get("objectRef", {})
    subresource = f"/{reference['subresource']}" if reference.get("subresource") else ""
    return f"{reference.get('resource', '?')}{subresource}"


def _who(entry: dict[str, Any]) -> str:
    agent, user = entry.get("userAgent", ""), entry["user"]["username"]
    if agent.startswith("phasewatt"):
        return "operator"
    if "kwok" in agent:
        return "kwok (kubelets)"
    if user.startswith("system:serviceaccount:kube-system") or user.startswith("system:kube-"):
        return "Kubernetes controllers"
    return "user"
