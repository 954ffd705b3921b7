"""From what an engine's `/metrics` says to the KV traffic of the last minutes. Pure.

Metric names: vLLM 0.32 `vllm/v1/metrics/loggers.py` and `kv_connector/v1/nixl/stats.py`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from phasewatt.plan.types import KVTraffic

WINDOW = 300.0
"""Seconds of traffic that a verdict rests on."""

_PLAIN = {
    "vllm:nixl_bytes_transferred_sum": "bytes",
    "vllm:nixl_xfer_time_seconds_sum": "seconds",
    "vllm:nixl_num_failed_transfers": "failed_transfers",
    "vllm:request_success": "requests",
}
_BY_SOURCE = {
    "external_kv_transfer": "transferred",
    "local_compute": "recomputed",
    "local_cache_hit": "cached",
}
_SOURCES = "vllm:prompt_tokens_by_source"
_CACHE = "vllm:cache_config_info"
_PREFIXES = (*_PLAIN, _SOURCES, _CACHE)

DEFAULT_BLOCK_SIZE = 16
"""Tokens per KV block of vLLM, where an engine does not say."""


@dataclass(frozen=True, slots=True)
class Counters:
    """Totals since the engine's start; tokens are prompt tokens, `bytes` and `seconds` those of KV transfers."""

    requests: float = 0.0
    transferred: float = 0.0
    recomputed: float = 0.0
    cached: float = 0.0
    failed_transfers: float = 0.0
    bytes: float = 0.0
    seconds: float = 0.0
    block_size: int = DEFAULT_BLOCK_SIZE

    def since(self, before: Counters) -> Counters:
        """Growth since an earlier reading; a counter that fell started anew from zero, so all of it is growth."""
        if any(getattr(self, name) < getattr(before, name) for name in _TOTALS):
            return self
        return self._combine(before, lambda now, then: now - then)

    def plus(self, other: Counters) -> Counters:
        return self._combine(other, lambda a, b: a + b)

    def is_zero(self) -> bool:
        return not any(getattr(self, name) for name in _TOTALS)

    def _combine(self, other: Counters, operation: Callable[[float, float], float]) -> Counters:
        combined = {name: operation(getattr(self, name), getattr(other, name)) for name in _TOTALS}
        return Counters(**combined, block_size=self.block_size)


_TOTALS = tuple(f.name for f in fields(Counters) if f.name != "block_size")


def read_counters(text: str) -> Counters:
    """Sum the counters that matter over all series of a scrape; what an engine does not export is zero."""
    # Parsing is the costly part, and an engine exports thousands of lines: only the few needed ones are parsed.
    wanted = "\n".join(line for line in text.splitlines() if line.startswith(_PREFIXES))
    samples = (s for family in text_string_to_metric_families(wanted + "\n") for s in family.samples)
    totals = dict.fromkeys(_TOTALS, 0.0)
    block_size = DEFAULT_BLOCK_SIZE
    for sample in samples:
        if sample.name == _CACHE:
            block_size = _block_size(sample, block_size)
        elif (name := _field(sample)) is not None:
            totals[name] += sample.value
    return Counters(**totals, block_size=block_size)


def _field(sample: Sample) -> str | None:
    # Clients add `_total` to counters on their own; both spellings are in the field.
    name = sample.name.removesuffix("_total")
    return _BY_SOURCE.get(sample.labels.get("source", "")) if name == _SOURCES else _PLAIN.get(name)


def _block_size(sample: Sample, default: int) -> int:
    text = sample.labels.get("block_size", "")
    return int(text) if text.isdecimal() else default


class TrafficWindow:
    """Growth of one engine's counters over the last `WINDOW` seconds of traffic.

    Idle time does not age it: what was proven by the last traffic stays until newer traffic says otherwise.
    """

    def __init__(self) -> None:
        self._last: Counters | None = None
        self._growth: deque[tuple[float, Counters]] = deque()

    def add(self, now: float, reading: Counters) -> Counters:
        """Take in a reading at `now` (seconds); the growth since the last one.

        The first reading counts whole: an engine starts from zero, and is seen first soon after its start.
        """
        growth = reading.since(self._last or Counters())
        self._last = reading
        if not growth.is_zero():
            self._growth.append((now, growth))
            while self._growth[0][0] < now - WINDOW:
                self._growth.popleft()
        return growth

    def traffic(self) -> KVTraffic:
        total = _sum(growth for _, growth in self._growth)
        return KVTraffic(
            requests=int(total.requests),
            transferred=int(total.transferred),
            recomputed=int(total.recomputed),
            cached=int(total.cached),
            failed_transfers=int(total.failed_transfers),
            bytes=total.bytes,
            seconds=total.seconds,
            block_size=self._last.block_size if self._last else DEFAULT_BLOCK_SIZE,
        )


def _sum(parts: Iterable[Counters]) -> Counters:
    total = Counters()
    for part in parts:
        total = total.plus(part)
    return total


def gist(traffic: KVTraffic) -> tuple[bool, int, bool, int]:
    """What of the traffic a verdict can turn on: any at all, share recomputed in steps of 5 %, failures, block size."""
    moved = traffic.transferred + traffic.recomputed
    share = round(20 * traffic.recomputed / moved) if moved else -1
    return traffic.requests > 0, share, traffic.failed_transfers > 0, traffic.block_size
