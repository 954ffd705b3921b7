"""What one engine step does (`StepLoad`) and how long it takes at a clock (`step_time`).

Kernels run one after another, each bound by compute or by memory (the roofline of Williams et al. 2009):
t = max(linear FLOPs / R, weights / M) + max(attention FLOPs / R, prefill KV / M) + decode KV / M + t0, with
R = eta_c x peak x f / f_max and M = eta_m x bandwidth x min(1, f / f_bw). Tensor parallelism divides work and bytes
evenly over its GPUs; all-reduce time is not modelled. Attention of decode tokens is always bound by reading their KV,
so its FLOPs count as activity but add no time.
"""

from dataclasses import dataclass
from typing import NamedTuple

from phasewatt.model.catalogue import Gpu, Model
from phasewatt.model.flops import attention_flops, head_flops, linear_flops
from phasewatt.model.kv import kv_bytes


class PrefillChunk(NamedTuple):
    """Part of a prompt computed in one step: `new` tokens after `cached` tokens that have their KV."""

    new: int
    cached: int


@dataclass(frozen=True, slots=True)
class StepLoad:
    """The batch of one engine step: any prefill chunks, and decode requests with the sum of their contexts (tokens)."""

    prefill: tuple[PrefillChunk, ...] = ()
    decode_requests: int = 0
    decode_context_tokens: int = 0

    @property
    def new_tokens(self) -> int:
        """Tokens whose KV this step computes."""
        return sum(chunk.new for chunk in self.prefill) + self.decode_requests

    @property
    def is_empty(self) -> bool:
        """Whether the step has nothing to compute."""
        return self.new_tokens == 0


@dataclass(frozen=True, slots=True)
class StepTime:
    """Seconds of one step, and the seconds in it that compute and memory each need on their own."""

    total_s: float
    compute_s: float
    memory_s: float

    @property
    def compute_share(self) -> float:
        """Share of the step that the compute pipes are needed (u_c), 0-1."""
        return self.compute_s / self.total_s if self.total_s else 0.0

    @property
    def memory_share(self) -> float:
        """Share of the step that memory is needed (u_m), 0-1."""
        return min(1.0, self.memory_s / self.total_s) if self.total_s else 0.0


IDLE = StepTime(total_s=0.0, compute_s=0.0, memory_s=0.0)


def step_time(gpu: Gpu, model: Model, load: StepLoad, clock_ghz: float, tensor_parallel: int = 1) -> StepTime:
    """Time of one step at an SM clock of `clock_ghz`, without regard to the power limit (see `power.run_step`).

    Raises:
        ValueError: the clock is not positive, or `tensor_parallel` < 1.
    """
    if clock_ghz <= 0 or tensor_parallel < 1:
        raise ValueError(f"clock {clock_ghz} GHz and tensor_parallel {tensor_parallel} must be positive")
    if load.is_empty:
        return IDLE
    flops_rate = gpu.compute_efficiency * gpu.peak_flops * clock_ghz / gpu.clock_max_ghz * tensor_parallel
    bytes_rate = (
        gpu.memory_efficiency * gpu.memory_bandwidth * min(1.0, clock_ghz / gpu.bandwidth_clock_ghz) * tensor_parallel
    )

    weights_read = (model.linear_parameters + model.head_parameters) * model.bytes_per_value
    prefill_kv_read = sum(kv_bytes(model, chunk.new + chunk.cached) for chunk in load.prefill)
    sampled = len(load.prefill) + load.decode_requests

    linear_compute = (linear_flops(model, load.new_tokens) + head_flops(model, sampled)) / flops_rate
    linear_memory = weights_read / bytes_rate
    attention_compute = sum(attention_flops(model, *chunk) for chunk in load.prefill) / flops_rate
    attention_memory = prefill_kv_read / bytes_rate
    decode_memory = kv_bytes(model, load.decode_context_tokens) / bytes_rate
    decode_compute = attention_flops(model, 1, load.decode_context_tokens) / flops_rate if load.decode_requests else 0.0

    return StepTime(
        total_s=max(linear_compute, linear_memory)
        + max(attention_compute, attention_memory)
        + decode_memory
        + gpu.step_overhead_s,
        compute_s=linear_compute + attention_compute + decode_compute,
        memory_s=linear_memory + attention_memory + decode_memory,
    )
