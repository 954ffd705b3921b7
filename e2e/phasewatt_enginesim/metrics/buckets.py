"""Histogram bucket bounds of vLLM 0.32 (vllm/v1/metrics/buckets.py and kv_connector/v1/nixl/stats.py)."""

REQUEST_LATENCY = (
    *(0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0),
    *(120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0),
)
TIME_TO_FIRST_TOKEN = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
    *(20.0, 40.0, 80.0, 160.0, 640.0, 2560.0),
)
INTER_TOKEN_LATENCY = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
    *(20.0, 40.0, 80.0),
)
ITERATION_TOKENS = tuple(float(tokens) for tokens in (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384))
REQUEST_PARAMS_N = (1.0, 2.0, 5.0, 10.0, 20.0)
REQUEST_NUM_PREEMPTIONS = (1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 20.0)

NIXL_POST_TIME = (0.001, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 5.0)
NIXL_XFER_TIME = NIXL_POST_TIME[1:]
NIXL_BYTES = tuple(float(2 ** (10 + exponent)) for exponent in range(1, 25, 2))
NIXL_DESCRIPTORS = tuple(
    float(count) for count in (10, 20, 30, 50, 75, 100, 200, 400, 1000, 2000, 4000, 10000, 20000, 50000)
)


def request_tokens(max_model_len: int) -> tuple[float, ...]:
    """The 1-2-5 series up to the longest sequence the engine serves."""
    series = (float(mantissa * 10**exponent) for exponent in range(len(str(max_model_len))) for mantissa in (1, 2, 5))
    return tuple(bound for bound in series if bound <= max_model_len)
