"""The metrics of vLLM's Prometheus logger (vllm/v1/metrics/loggers.py, 0.32), counted at the same events as there.

Durations are simulated seconds: divide by the time scale for wall time.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge

from phasewatt_enginesim.config import EngineConfig
from phasewatt_enginesim.engine.request import FinishReason, Request
from phasewatt_enginesim.engine.scheduler import Scheduler, Step
from phasewatt_enginesim.metrics import buckets
from phasewatt_enginesim.metrics.family import MetricFactory

SOURCES = ("local_compute", "local_cache_hit", "external_kv_transfer")
CACHE_TIERS = ("device", "host", "p2p", "disk", "external_unspecified")
KV_FETCH_STAGES = ("waiting_to_start", "in_progress", "completed_waiting")
ADMISSION_REASONS = ("max_num_queued_reqs", "max_num_queued_tokens")


class EngineMetrics:
    """Gauges, counters and histograms of one engine."""

    def __init__(self, config: EngineConfig, registry: CollectorRegistry) -> None:
        factory = MetricFactory(registry, config.served_names[0])
        self._config = config
        self._gauges(factory)
        self._counters(factory, registry)
        self._token_histograms(factory)
        self._time_histograms(factory)
        self._constant_series(factory, registry)

    def _gauges(self, factory: MetricFactory) -> None:
        self.running = factory.gauge("vllm:num_requests_running", "Number of requests in model execution batches.")
        self.waiting = factory.gauge("vllm:num_requests_waiting", "Number of requests waiting to be processed.")
        self.waiting_by_reason = factory.gauges(
            "vllm:num_requests_waiting_by_reason",
            "Waiting requests: 'capacity' waits for room in the batch or the KV pool, 'deferred' for a KV transfer.",
            "reason",
            ("capacity", "deferred"),
        )
        self.kv_fetch: dict[str, Gauge] = {}
        if self._config.kv_transfer and self._config.kv_transfer.is_consumer:
            self.kv_fetch = factory.gauges(
                "vllm:num_requests_kv_fetch_by_stage",
                "Number of waiting requests by async KV load stage.",
                "stage",
                KV_FETCH_STAGES,
            )
        self.kv_usage = factory.gauge("vllm:kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.")

    def _counters(self, factory: MetricFactory, registry: CollectorRegistry) -> None:
        counter = factory.counter
        self.prefix_queries = counter("vllm:prefix_cache_queries", "Prefix cache queries, in tokens.")
        self.prefix_hits = counter("vllm:prefix_cache_hits", "Prefix cache hits, in tokens; always 0 here.")
        self.external_queries = counter(
            "vllm:external_prefix_cache_queries", "External prefix cache queries from KV connector, in tokens."
        )
        self.external_hits = counter(
            "vllm:external_prefix_cache_hits", "External prefix cache hits from KV connector, in tokens."
        )
        self.preemptions = counter("vllm:num_preemptions", "Cumulative number of preemption from the engine.")
        self.prompt_tokens = counter("vllm:prompt_tokens", "Number of prefill tokens processed.")
        self.prompt_by_source = factory.counters(
            "vllm:prompt_tokens_by_source", "Number of prompt tokens by source.", "source", SOURCES
        )
        self.prompt_cached = counter("vllm:prompt_tokens_cached", "Number of cached prompt tokens (local + external).")
        self.cached_by_source = factory.counters(
            "vllm:prompt_tokens_cached_by_source", "Cache hit tokens by the tier that had them.", "source", CACHE_TIERS
        )
        self.generation_tokens = counter("vllm:generation_tokens", "Number of generation tokens processed.")
        self.success = factory.counters(
            "vllm:request_success",
            "Count of successfully processed requests.",
            "finished_reason",
            [reason.value for reason in FinishReason],
        )
        rejections = Counter(
            "vllm:admission_rejections",
            "Simulated. Admission attempts rejected by a queue limit; the simulator has none.",
            ["model_name", "reason"],
            registry=registry,
        )
        for reason in ADMISSION_REASONS:
            rejections.labels(self._config.served_names[0], reason)

    def _token_histograms(self, factory: MetricFactory) -> None:
        tokens = buckets.request_tokens(self._config.max_model_len)
        histogram = factory.histogram
        self.request_prompt = histogram("vllm:request_prompt_tokens", "Number of prefill tokens processed.", tokens)
        self.request_generation = histogram(
            "vllm:request_generation_tokens", "Number of generation tokens processed.", tokens
        )
        self.iteration_tokens = histogram(
            "vllm:iteration_tokens_total", "Histogram of number of tokens per engine_step.", buckets.ITERATION_TOKENS
        )
        self.request_max_generation = histogram(
            "vllm:request_max_num_generation_tokens",
            "Histogram of maximum number of requested generation tokens.",
            tokens,
        )
        self.params_n = histogram("vllm:request_params_n", "The n request parameter.", buckets.REQUEST_PARAMS_N)
        self.params_max_tokens = histogram("vllm:request_params_max_tokens", "The max_tokens parameter.", tokens)
        self.request_preemptions = histogram(
            "vllm:request_num_preemptions",
            "Histogram of the number of times a request was preempted.",
            buckets.REQUEST_NUM_PREEMPTIONS,
        )
        self.prefill_computed = histogram(
            "vllm:request_prefill_kv_computed_tokens",
            "Histogram of new KV tokens computed during prefill (excluding cached tokens).",
            tokens,
        )

    def _time_histograms(self, factory: MetricFactory) -> None:
        histogram = factory.histogram
        self.ttft = histogram(
            "vllm:time_to_first_token_seconds", "Time to first token in seconds.", buckets.TIME_TO_FIRST_TOKEN
        )
        self.itl = histogram(
            "vllm:inter_token_latency_seconds", "Inter-token latency in seconds.", buckets.INTER_TOKEN_LATENCY
        )
        self.tpot = histogram(
            "vllm:request_time_per_output_token_seconds",
            "Time per output token of a request in seconds, without the first.",
            buckets.INTER_TOKEN_LATENCY,
        )
        latency = buckets.REQUEST_LATENCY
        self.e2e = histogram("vllm:e2e_request_latency_seconds", "End-to-end request latency in seconds.", latency)
        self.queue_time = histogram("vllm:request_queue_time_seconds", "Time in WAITING phase in seconds.", latency)
        self.inference_time = histogram(
            "vllm:request_inference_time_seconds", "Time in RUNNING phase in seconds.", latency
        )
        self.prefill_time = histogram("vllm:request_prefill_time_seconds", "Time in PREFILL phase in seconds.", latency)
        self.decode_time = histogram("vllm:request_decode_time_seconds", "Time in DECODE phase in seconds.", latency)

    def _constant_series(self, factory: MetricFactory, registry: CollectorRegistry) -> None:
        sleep = factory.gauges(
            "vllm:engine_sleep_state",
            "Engine sleep state; the simulator is always awake.",
            "sleep_state",
            ("awake", "weights_offloaded", "discard_all"),
        )
        sleep["awake"].set(1)
        factory.counter("vllm:mm_cache_queries", "Multi-modal cache queries; always 0 here.")
        factory.counter("vllm:mm_cache_hits", "Multi-modal cache hits; always 0 here.")
        for what in ("flops", "read_bytes", "write_bytes"):
            factory.counter(f"vllm:estimated_{what}_per_gpu", "Needs --enable-mfu-metrics; always 0 here.")
        config = self._config
        info = {
            "block_size": str(config.block_tokens),
            "cache_dtype": config.kv_cache_dtype,
            "enable_prefix_caching": str(config.prefix_caching),
            "kv_cache_size_tokens": str(config.kv_pool_blocks * config.block_tokens),
            "num_gpu_blocks": str(config.kv_pool_blocks),
            "engine": "0",
        }
        Gauge("vllm:cache_config_info", "Simulated. The cache configuration.", list(info), registry=registry).labels(
            **info
        ).set(1)
        Gauge("phasewatt_engine_simulated", "1: this engine is simulated by engine-sim.", registry=registry).set(1)

    def observe_queues(self, scheduler: Scheduler) -> None:
        """Set the gauges from the scheduler's present state."""
        fetching = scheduler.fetching
        queued = len(scheduler.waiting) - fetching
        self.running.set(len(scheduler.running))
        self.waiting.set(queued + fetching)
        self.waiting_by_reason["capacity"].set(queued)
        self.waiting_by_reason["deferred"].set(fetching)
        self.kv_usage.set(scheduler.pool.usage)
        if self.kv_fetch:
            self.kv_fetch["waiting_to_start"].set(sum(1 for r in scheduler.waiting if r.wants_remote_prefill))
            self.kv_fetch["in_progress"].set(fetching)

    def observe_step(self, step: Step) -> None:
        """Count the cache lookups of a step's newly admitted requests, and its preemptions."""
        self.preemptions.inc(len(step.preempted))
        for request in step.admitted:
            if request.preemptions:
                continue
            external = request.prompt_tokens if request in step.fetches else 0
            if self._config.prefix_caching:
                self.prefix_queries.inc(request.total_tokens)
            if self._config.kv_transfer:
                self.external_queries.inc(request.total_tokens)
                self.external_hits.inc(external)
                self.cached_by_source["p2p"].inc(external)

    def observe_submitted(self, request: Request) -> None:
        """Count what a request asks for."""
        self.params_n.observe(1)
        self.request_max_generation.observe(request.max_tokens)

    def observe_first_token(self, request: Request, now: float) -> int:
        """Count the prompt by source, and TTFT; returns the prompt tokens computed here."""
        local = request.prompt_tokens - request.external_tokens
        self.prompt_tokens.inc(request.prompt_tokens)
        self.prompt_by_source["local_compute"].inc(local)
        self.prompt_by_source["external_kv_transfer"].inc(request.external_tokens)
        self.prompt_cached.inc(request.external_tokens)
        self.ttft.observe(now - request.arrived)
        return local

    def observe_finished(self, request: Request, reason: FinishReason, now: float) -> None:
        """Count a request that ended by itself or was aborted."""
        self.success[reason.value].inc()
        self.e2e.observe(now - request.arrived)
        scheduled = request.first_scheduled if request.first_scheduled is not None else now
        first = request.first_token if request.first_token is not None else now
        last = request.last_token if request.last_token is not None else now
        self.queue_time.observe(scheduled - request.arrived)
        self.prefill_time.observe(first - scheduled)
        self.decode_time.observe(last - first)
        self.inference_time.observe(last - scheduled)
        self.tpot.observe((last - first) / (request.output_tokens - 1) if request.output_tokens > 1 else 0)
        self.request_preemptions.observe(request.preemptions)
        self.prefill_computed.observe(request.prompt_tokens - request.external_tokens)
        self.request_prompt.observe(request.prompt_tokens)
        self.request_generation.observe(request.output_tokens)
        self.params_max_tokens.observe(request.max_tokens)
