"""The metrics of vLLM's NIXL connector (kv_connector/v1/nixl/stats.py, 0.32), of engines that have the connector."""

from phasewatt_enginesim.metrics import buckets
from phasewatt_enginesim.metrics.family import MetricFactory


class NixlMetrics:
    """Transfers as the decode engine sees them, leases as the prefill engine does."""

    def __init__(self, factory: MetricFactory) -> None:
        self._xfer_time = factory.histogram(
            "vllm:nixl_xfer_time_seconds", "Transfer duration of NIXL KV Cache transfers.", buckets.NIXL_XFER_TIME
        )
        self._post_time = factory.histogram(
            "vllm:nixl_post_time_seconds", "Transfer post time of NIXL KV Cache transfers.", buckets.NIXL_POST_TIME
        )
        self._bytes = factory.histogram(
            "vllm:nixl_bytes_transferred", "Bytes transferred per NIXL KV Cache transfers.", buckets.NIXL_BYTES
        )
        self._descriptors = factory.histogram(
            "vllm:nixl_num_descriptors", "Descriptors per NIXL KV Cache transfers.", buckets.NIXL_DESCRIPTORS
        )
        self.failed_transfers = factory.counter(
            "vllm:nixl_num_failed_transfers",
            "Failed NIXL KV Cache transfers, including handshake and notification failures.",
        )
        self.failed_notifications = factory.counter(
            "vllm:nixl_num_failed_notifications", "Failed NIXL KV Cache notifications."
        )
        self.expired_requests = factory.counter(
            "vllm:nixl_num_kv_expired_reqs", "Requests that had their KV expire, on the prefill engine."
        )
        self.notifications_after_expiry = factory.counter(
            "vllm:nixl_num_notifications_after_expiry",
            "Completion notifications for requests that were no longer tracked; their blocks may have been reused.",
        )

    def observe_transfer(self, *, size_bytes: int, descriptors: int, wire_s: float, post_s: float, ranks: int) -> None:
        """Record one transfer; each of `ranks` tensor-parallel ranks moves its share and reports it."""
        for _ in range(ranks):
            self._xfer_time.observe(wire_s)
            self._post_time.observe(post_s)
            self._bytes.observe(size_bytes / ranks)
            self._descriptors.observe(descriptors)
