"""What of a status is worth a write, and what of it is worth an event. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from phasewatt.api.v1alpha1 import API_VERSION, KIND
from phasewatt.kube.port import Manifest

REPORTER = "phasewatt"
NOTE_LIMIT = 1024
"""Longest note of an event. Source: events.k8s.io/v1, Event.note."""

ABNORMAL_WHEN_TRUE = frozenset({"Stalled"})
"""Conditions of which True is the bad news. Source: kstatus, "abnormal-true" conditions."""

ROUTINE = frozenset({"Reconciling", "PrefillAvailable", "DecodeAvailable", "EnginesAvailable", "RouterAvailable"})
"""Conditions that are no news on their own: every change flips the first twice, and Ready sums the others up."""


def conditions_of(status: Manifest) -> dict[str, Manifest]:
    return {c["type"]: c for c in status.get("conditions", [])}


def is_urgent(before: Manifest, after: Manifest) -> bool:
    """Whether someone may be waiting for this write: a condition flipped, or a new generation was seen."""

    def flips(status: Manifest) -> Any:
        return status.get("observedGeneration"), {t: c["status"] for t, c in conditions_of(status).items()}

    return bool(flips(before) != flips(after))


def transitions(before: Manifest, after: Manifest) -> list[Manifest]:
    """Conditions of `after` that tell news: flipped since `before`, or bad from the first moment on."""
    old = conditions_of(before)

    def is_news(condition: Manifest) -> bool:
        if condition["type"] in ROUTINE:
            return False
        if condition["type"] not in old:
            return condition["type"] in ABNORMAL_WHEN_TRUE and condition["status"] == "True"
        return bool(old[condition["type"]]["status"] != condition["status"])

    return [c for c in after.get("conditions", []) if is_news(c)]


def with_condition(status: Manifest, condition: Manifest) -> Manifest:
    """The status with one condition replaced or added."""
    others = [c for c in status.get("conditions", []) if c["type"] != condition["type"]]
    return {**status, "conditions": [*others, condition]}


def stalled(status: Manifest, reason: str, message: str, generation: int) -> Manifest:
    """The status of an object that only a change by a human gets going again."""
    halted = {"status": "False", "reason": reason, "message": message, "observedGeneration": generation}
    present = conditions_of(status).get("Ready", {}).get("message", "")
    # Never Ready beside Stalled: what still serves is told in the message.
    status = with_condition(status, {"type": "Ready", **halted, "message": f"{message} {present}".strip()})
    status = with_condition(status, {"type": "Reconciling", **halted})
    return with_condition(status, {"type": "Stalled", **halted, "status": "True"})


def struggling(status: Manifest, reason: str, message: str, generation: int) -> Manifest:
    """The status of an object whose pass failed and is tried again."""
    trying = {"status": "True", "reason": reason, "message": message, "observedGeneration": generation}
    return with_condition(status, {"type": "Reconciling", **trying})


def waiting(status: Manifest, reason: str, message: str, generation: int) -> Manifest:
    """The status of an object that can do nothing yet."""
    unready = {"status": "False", "reason": reason, "message": message, "observedGeneration": generation}
    status = with_condition({**status, "observedGeneration": generation}, {"type": "Ready", **unready})
    return with_condition(status, {"type": "Reconciling", **unready, "status": "True"})


def event_for(obj: Manifest, condition: Manifest, instance: str, now: datetime) -> Manifest:
    """An events.k8s.io/v1 Event that tells of a condition of an object."""
    metadata = obj["metadata"]
    good = (condition["status"] == "True") != (condition["type"] in ABNORMAL_WHEN_TRUE)
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"namespace": metadata["namespace"], "generateName": f"{metadata['name'][:200]}-"},
        "eventTime": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "reportingController": REPORTER,
        "reportingInstance": instance,
        "action": "Reconcile",
        "reason": condition["reason"],
        "type": "Normal" if good else "Warning",
        "note": f"{condition['type']} is {condition['status']}: {condition['message']}"[:NOTE_LIMIT],
        "regarding": {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"],
        },
    }
