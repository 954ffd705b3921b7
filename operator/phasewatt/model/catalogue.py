"""The GPUs and models the analytic model knows, with the constants that describe them.

Hardware limits (peak, bandwidth, memory, TDP, clock range) are NVIDIA's A100 PCIe data sheets; model shapes are the
published `config.json` of each model. The efficiency and power coefficients are calibrated so that the A100-40
reproduces the setup of Li et al., "Revisiting Disaggregated LLM Serving" (2 x A100 40 GB PCIe, Llama-3.2-3B), and the
A100-80 the Hugging Face rows of Ruf & Detyniecki, "The Cost of Context" (Llama-3.1-8B, 112k tokens: 25.5 s, 7.6 kJ).
"""

from dataclasses import dataclass
from types import MappingProxyType

GIB = 1024**3


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU product. Clocks in GHz, power in W, bandwidth in bytes/s, peak in FLOP/s (bf16 dense)."""

    product: str
    memory_bytes: int
    peak_flops: float
    memory_bandwidth: float
    tdp_watts: float
    clock_min_ghz: float
    clock_max_ghz: float
    clock_step_ghz: float
    compute_efficiency: float
    """Share of `peak_flops` that large matrix products reach (eta_c)."""
    memory_efficiency: float
    """Share of `memory_bandwidth` that weight and KV reads reach (eta_m)."""
    step_overhead_s: float
    """Time of an engine step that neither computes nor reads: scheduling, sampling, launches (t0)."""
    idle_watts: float
    busy_watts: float
    """Clock-dependent power of a GPU that runs any kernel at all, at the highest clock (k_b)."""
    compute_watts: float
    """Clock-dependent power added by a fully used compute pipe, at the highest clock (k_c)."""
    memory_watts: float
    """Power added by fully used memory, whatever the SM clock (k_m)."""
    knee_clock_ghz: float
    """Up to this clock the core voltage stays at its floor (f_k); the A100's base clock."""
    voltage_floor: float
    """Core voltage at and below the knee, as a share of the voltage at the highest clock (v0)."""
    bandwidth_clock_ghz: float
    """Below this SM clock memory bandwidth falls with the clock (f_bw)."""

    @property
    def supported_clocks_ghz(self) -> tuple[float, ...]:
        """Every SM clock the product accepts, ascending, in GHz."""
        steps = round((self.clock_max_ghz - self.clock_min_ghz) / self.clock_step_ghz)
        return tuple(round(self.clock_min_ghz + i * self.clock_step_ghz, 3) for i in range(steps + 1))


@dataclass(frozen=True, slots=True)
class Model:
    """Shape of a decoder-only transformer with grouped-query attention."""

    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    feed_forward: int
    vocabulary: int
    tied_embeddings: bool
    context: int
    """Longest sequence the model was made for, in tokens."""
    bytes_per_value: int = 2
    """Bytes of one weight or KV value: 2 for bf16 and fp16, 4 for fp32."""

    @property
    def linear_parameters(self) -> int:
        """Parameters of all layers' matrices (N): attention projections and the gated feed-forward block."""
        attention = 2 * self.hidden * self.heads * self.head_dim + 2 * self.hidden * self.kv_heads * self.head_dim
        return self.layers * (attention + 3 * self.hidden * self.feed_forward)

    @property
    def head_parameters(self) -> int:
        """Parameters of the output head, V x d."""
        return self.vocabulary * self.hidden

    @property
    def parameters(self) -> int:
        """All parameters; a tied model stores input embedding and output head once."""
        return self.linear_parameters + self.head_parameters * (1 if self.tied_embeddings else 2)

    @property
    def weight_bytes(self) -> int:
        """Memory that the weights take, in bytes."""
        return self.parameters * self.bytes_per_value


A100_40_PCIE = Gpu(
    product="A100-40-PCIe",
    memory_bytes=40 * GIB,
    peak_flops=312e12,
    memory_bandwidth=1555e9,
    tdp_watts=250.0,
    clock_min_ghz=0.210,
    clock_max_ghz=1.410,
    clock_step_ghz=0.015,
    compute_efficiency=0.66,
    memory_efficiency=0.80,
    step_overhead_s=0.004,
    idle_watts=55.0,
    busy_watts=60.0,
    compute_watts=190.0,
    memory_watts=45.0,
    knee_clock_ghz=0.765,
    voltage_floor=0.74,
    bandwidth_clock_ghz=0.81,
)

A100_80_PCIE = Gpu(
    product="A100-80-PCIe",
    memory_bytes=80 * GIB,
    peak_flops=312e12,
    memory_bandwidth=2039e9,
    tdp_watts=300.0,
    clock_min_ghz=0.210,
    clock_max_ghz=1.410,
    clock_step_ghz=0.015,
    compute_efficiency=0.66,
    memory_efficiency=0.80,
    step_overhead_s=0.004,
    idle_watts=60.0,
    busy_watts=60.0,
    compute_watts=205.0,
    memory_watts=50.0,
    knee_clock_ghz=0.765,
    voltage_floor=0.74,
    bandwidth_clock_ghz=0.81,
)

GPUS = MappingProxyType({gpu.product: gpu for gpu in (A100_40_PCIE, A100_80_PCIE)})

LLAMA_3_2_3B = Model(
    name="Llama-3.2-3B",
    layers=28,
    hidden=3072,
    heads=24,
    kv_heads=8,
    head_dim=128,
    feed_forward=8192,
    vocabulary=128_256,
    tied_embeddings=True,
    context=131_072,
)

LLAMA_3_1_8B = Model(
    name="Llama-3.1-8B",
    layers=32,
    hidden=4096,
    heads=32,
    kv_heads=8,
    head_dim=128,
    feed_forward=14_336,
    vocabulary=128_256,
    tied_embeddings=False,
    context=131_072,
)

QWEN2_7B = Model(
    name="Qwen2-7B",
    layers=28,
    hidden=3584,
    heads=28,
    kv_heads=4,
    head_dim=128,
    feed_forward=18_944,
    vocabulary=152_064,
    tied_embeddings=False,
    context=32_768,
)

TINY = Model(
    name="tiny",
    layers=4,
    hidden=256,
    heads=4,
    kv_heads=2,
    head_dim=64,
    feed_forward=512,
    vocabulary=2048,
    tied_embeddings=False,
    context=16_384,
    bytes_per_value=4,
)
"""The random model that the `engine-cpu` image generates at build time; it runs in fp32 on a CPU."""

MODELS = MappingProxyType({model.name: model for model in (LLAMA_3_2_3B, LLAMA_3_1_8B, QWEN2_7B, TINY)})


def find_gpu(product: str) -> Gpu:
    """The GPU of that product name.

    Raises:
        LookupError: the catalogue does not know the product; the message lists those it knows.
    """
    try:
        return GPUS[product]
    except KeyError:
        raise LookupError(f"GPU product {product!r} is not in the catalogue; known: {', '.join(GPUS)}") from None


def find_model(reference: str) -> Model:
    """The model that a Hugging Face name, a path or a catalogue name refers to.

    The last path segment decides, case-insensitively, and suffixes such as `-Instruct` do not matter:
    `meta-llama/Llama-3.2-3B-Instruct` and `/models/Llama-3.2-3B` are both Llama-3.2-3B.

    Raises:
        LookupError: no catalogue model fits; the message lists those it knows.
    """
    segment = reference.rstrip("/").rsplit("/", 1)[-1].lower()
    for name, model in MODELS.items():
        if segment == name.lower() or segment.startswith(f"{name.lower()}-"):
            return model
    raise LookupError(f"model {reference!r} is not in the catalogue; known: {', '.join(MODELS)}")
