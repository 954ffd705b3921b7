"""Writes status by server-side apply: only on change, seldom while things merely progress, with events on news."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from phasewatt.api.v1alpha1 import API_VERSION, KIND
from phasewatt.controllers.cache import Cache
from phasewatt.controllers.keys import Key
from phasewatt.controllers.metrics import Metrics
from phasewatt.controllers.reports import event_for, is_urgent, transitions
from phasewatt.kube.errors import ApiError
from phasewatt.kube.port import Api, Manifest
from phasewatt.plan.types import stamp

PROGRESS_INTERVAL = 2.0
"""Seconds between two writes of one object's status that flip no condition."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Written:
    """What was asked for last, and what the server made of it (another owner may have conditions there too)."""

    at: float
    asked: int
    stored: int


class StatusWriter:
    def __init__(
        self, api: Api, cache: Cache, metrics: Metrics, instance: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`instance` names this process in events; `clock` counts seconds."""
        self._api = api
        self._cache = cache
        self._metrics = metrics
        self._instance = instance
        self._clock = clock
        self._written: dict[Key, _Written] = {}

    async def write(self, key: Key, obj: Manifest, wanted: Manifest) -> float | None:
        """Bring the status of `obj` to `wanted`; the seconds to wait where the write was put off.

        Raises ApiError where the server refuses. An event that cannot be posted is logged and dropped.
        """
        now, previous = datetime.now(UTC), obj.get("status", {})
        status = stamp(wanted, previous, now)
        self._metrics.conditions.see(key, status)
        last = self._written.get(key)
        if status == previous or (last and (last.asked, last.stored) == (_digest(status), _digest(previous))):
            return None
        if last and not is_urgent(previous, status):
            wait = last.at + PROGRESS_INTERVAL - self._clock()
            if wait > 0:
                return wait
        stored = await self._api.apply_status(_status_of(obj, status))
        self._cache.observe(stored)
        self._written[key] = _Written(self._clock(), _digest(status), _digest(stored.get("status", {})))
        await self._post_events(obj, previous, status, now)
        return None

    def forget(self, key: Key) -> None:
        self._written.pop(key, None)

    async def _post_events(self, obj: Manifest, before: Manifest, after: Manifest, now: datetime) -> None:
        for condition in transitions(before, after):
            try:
                await self._api.post_event(event_for(obj, condition, self._instance, now))
            except ApiError as error:
                log.warning("could not post an event: %s", error)


def _status_of(obj: Manifest, status: Manifest) -> Manifest:
    # The uid keeps a namesake that was created meanwhile from getting this status.
    metadata = {field: obj["metadata"][field] for field in ("name", "namespace", "uid")}
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "status": status}


def _digest(value: Manifest) -> int:
    return hash(json.dumps(value, sort_keys=True))
