"""What the operator tells Prometheus about itself and about the KV traffic of its objects."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterator
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, disable_created_metrics
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from phasewatt.controllers.keys import Key
from phasewatt.controllers.reports import conditions_of
from phasewatt.kube.port import Manifest

PASS_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds; a pass without writes takes about a millisecond, one that creates all children some tens."""

READS = frozenset({"get", "list"})


class Metrics:
    """All metrics on a registry of their own, so that tests and processes do not share state."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)
        r = self.registry
        self.passes = Counter("phasewatt_reconcile", "Passes by outcome.", ["outcome"], registry=r)
        self.seconds = Histogram("phasewatt_reconcile_seconds", "Duration of a pass.", buckets=PASS_BUCKETS, registry=r)
        self.waited = Histogram(
            "phasewatt_queue_wait_seconds", "Time from wake-up to pass.", buckets=PASS_BUCKETS, registry=r
        )
        self.depth = Gauge("phasewatt_queue_depth", "Objects that wait for a worker.", registry=r)
        self.oldest = Gauge("phasewatt_queue_oldest_seconds", "Age of the oldest unfinished work.", registry=r)
        self.writes = Counter("phasewatt_api_writes", "Writes to the API server.", ["verb", "kind"], registry=r)
        self.reads = Counter("phasewatt_api_reads", "Reads from the API server.", ["verb", "kind"], registry=r)
        self.errors = Counter(
            "phasewatt_api_errors", "Requests that failed; code 0 is no answer.", ["verb", "kind", "code"], registry=r
        )
        self.watch_events = Counter(
            "phasewatt_watch_events", "Watch events by their effect.", ["kind", "change"], registry=r
        )
        self.scrapes = Counter("phasewatt_engine_scrapes", "Scrapes of engines by result.", ["result"], registry=r)
        self.kv_tokens = Counter(
            "phasewatt_kv_tokens",
            "Prompt tokens at decode engines by where their KV cache came from.",
            ["namespace", "object", "outcome"],
            registry=r,
        )
        self.kv_bytes = Counter(
            "phasewatt_kv_transferred_bytes", "KV cache moved to decode engines.", ["namespace", "object"], registry=r
        )
        self.conditions = ConditionCollector()
        r.register(self.conditions)
        Info("phasewatt_build", "Version of the operator.", registry=r).info({"version": version("phasewatt")})

    def watch_queue(self, depth: Callable[[], float], oldest: Callable[[], float]) -> None:
        """Read the queue whenever Prometheus asks."""
        self.depth.set_function(depth)
        self.oldest.set_function(oldest)

    def observe_request(self, verb: str, kind: str, code: int) -> None:
        """Count a request to the API server; `code` is the HTTP status, 0 for none."""
        (self.reads if verb in READS else self.writes).labels(verb, kind).inc()
        # A missing object is an answer, not an error, to a question.
        if not 200 <= code < 300 and (verb, code) != ("get", 404):
            self.errors.labels(verb, kind, str(code)).inc()

    def forget(self, key: Key) -> None:
        """Drop the series of an object that is gone."""
        self.conditions.forget(key)
        for metric in (self.kv_tokens, self.kv_bytes):
            metric.remove_by_labels({"namespace": key.namespace, "object": key.name})


class ConditionCollector(Collector):
    """Objects by condition and status, counted when asked."""

    def __init__(self) -> None:
        self._status: dict[Key, tuple[tuple[str, str], ...]] = {}

    def see(self, key: Key, status: Manifest) -> None:
        self._status[key] = tuple((t, c["status"]) for t, c in conditions_of(status).items())

    def forget(self, key: Key) -> None:
        self._status.pop(key, None)

    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily("phasewatt_objects", "Objects by condition.", labels=["condition", "status"])
        tally = Tally(pair for pairs in self._status.values() for pair in pairs)
        for (condition, status), count in sorted(tally.items()):
            family.add_metric([condition, status], count)
        yield family
