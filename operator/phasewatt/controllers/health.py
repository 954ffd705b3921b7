"""Whether the operator still does its work: what /healthz and /readyz answer. Pure."""

from __future__ import annotations

from dataclasses import dataclass

STUCK_AFTER = 180.0
"""Seconds that a key may be unfinished: three times the longest backoff, six times the longest request."""

SILENT_AFTER_RESYNCS = 2.5
"""Resync periods without a resync or an event after which the operator is deaf."""

DEAF_AFTER = 5
"""Ends of the watcher in a row, each soon after its start, after which only resyncs drive the operator."""


@dataclass(slots=True)
class Vitals:
    """Signs of life, in seconds of the loop's clock."""

    workers: int
    alive: int
    oldest: float
    resync: float
    last_sign: float | None
    """Last watch event or resync; None before the first resync."""
    watch_failures: int = 0
    """Ends of the watcher in a row, each soon after its start."""


def unhealthy(vitals: Vitals, now: float) -> str | None:
    """Why the operator should be restarted; None where it is well."""
    if vitals.alive < vitals.workers and vitals.last_sign is not None:
        return f"{vitals.workers - vitals.alive} of {vitals.workers} workers died"
    if vitals.oldest > STUCK_AFTER:
        return f"reconciling is stuck: an object has been unfinished for {vitals.oldest:.0f} s"
    if vitals.watch_failures >= DEAF_AFTER:
        return f"the watcher ended {vitals.watch_failures} times in a row; the log says why"
    if vitals.last_sign is not None and now - vitals.last_sign > SILENT_AFTER_RESYNCS * vitals.resync:
        return f"no watch event and no resync for {now - vitals.last_sign:.0f} s"
    return None


def unready(vitals: Vitals) -> str | None:
    """Why the operator does not work yet; None once it does."""
    return "the first list of objects is not complete" if vitals.last_sign is None else None
