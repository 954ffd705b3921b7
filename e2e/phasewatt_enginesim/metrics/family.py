"""Makes metric families that carry vLLM's labels with this engine's values."""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

ENGINE_INDEX = "0"
"""Data-parallel rank; a simulated engine is always the only one of its server."""


class MetricFactory:
    """Registers metrics in one registry; each is returned with `model_name` and `engine` already filled in."""

    def __init__(self, registry: CollectorRegistry, model_name: str) -> None:
        self._registry = registry
        self._labels = {"model_name": model_name, "engine": ENGINE_INDEX}

    def gauge(self, name: str, text: str) -> Gauge:
        """A gauge of the engine."""
        return Gauge(name, _simulated(text), list(self._labels), registry=self._registry).labels(**self._labels)

    def gauges(self, name: str, text: str, label: str, values: Sequence[str]) -> dict[str, Gauge]:
        """A gauge with one more label, one child for each of its values."""
        family = Gauge(name, _simulated(text), [*self._labels, label], registry=self._registry)
        return {value: family.labels(**self._labels, **{label: value}) for value in values}

    def counter(self, name: str, text: str) -> Counter:
        """A counter of the engine; its sample name gets `_total`."""
        return Counter(name, _simulated(text), list(self._labels), registry=self._registry).labels(**self._labels)

    def counters(self, name: str, text: str, label: str, values: Sequence[str]) -> dict[str, Counter]:
        """A counter with one more label, one child for each of its values."""
        family = Counter(name, _simulated(text), [*self._labels, label], registry=self._registry)
        return {value: family.labels(**self._labels, **{label: value}) for value in values}

    def histogram(self, name: str, text: str, buckets: Sequence[float]) -> Histogram:
        """A histogram of the engine."""
        family = Histogram(name, _simulated(text), list(self._labels), buckets=buckets, registry=self._registry)
        return family.labels(**self._labels)


def _simulated(text: str) -> str:
    return f"Simulated. {text}"
