"""Power of a GPU against its clock and activity, and the clock that the power limit leaves.

P = P_idle + (k_b + k_c u_c) g v(f)^2 + k_m u_m with g = f / f_max and the voltage curve
v(f) = v0 + (1 - v0) max(0, (f - f_k) / (f_max - f_k)): dynamic CMOS power, C V^2 f, with a voltage floor below the
knee. The coefficients are calibrated on Li et al., "Revisiting Disaggregated LLM Serving" (sweet spot near 0.81 GHz),
and Ruf & Detyniecki, "The Cost of Context" (280-310 W prefill plateau).
"""

from dataclasses import dataclass

from phasewatt.model.catalogue import Gpu, Model
from phasewatt.model.step import StepLoad, StepTime, step_time

BLOCKED_SHARE = 0.3
"""Share of `busy_watts` that a GPU draws while its engine waits for a KV load (assumed)."""


@dataclass(frozen=True, slots=True)
class RunStep:
    """One step as it runs: the clock after the power limit (GHz), its time, and the power of each GPU (W)."""

    clock_ghz: float
    time: StepTime
    watts: float

    @property
    def joules(self) -> float:
        """Energy of the step on each GPU, in J."""
        return self.watts * self.time.total_s


def voltage(gpu: Gpu, clock_ghz: float) -> float:
    """Core voltage at a clock, as a share of the voltage at the highest clock."""
    above_knee = max(0.0, (clock_ghz - gpu.knee_clock_ghz) / (gpu.clock_max_ghz - gpu.knee_clock_ghz))
    return gpu.voltage_floor + (1 - gpu.voltage_floor) * above_knee


def power_watts(gpu: Gpu, clock_ghz: float, compute_share: float, memory_share: float) -> float:
    """Power of a GPU that is busy, in W, at a clock and with compute and memory used for those shares of the time."""
    dynamic = (gpu.busy_watts + gpu.compute_watts * compute_share) * clock_ghz / gpu.clock_max_ghz
    return gpu.idle_watts + dynamic * voltage(gpu, clock_ghz) ** 2 + gpu.memory_watts * memory_share


def blocked_watts(gpu: Gpu) -> float:
    """Power of a GPU whose engine waits for a KV load, in W."""
    return gpu.idle_watts + BLOCKED_SHARE * gpu.busy_watts


def run_step(gpu: Gpu, model: Model, load: StepLoad, clock_ghz: float, tensor_parallel: int = 1) -> RunStep:
    """One step at the highest supported clock that is not above `clock_ghz` and keeps the GPU within its TDP.

    Raises:
        ValueError: `clock_ghz` is below the product's lowest clock.
    """
    allowed = [clock for clock in gpu.supported_clocks_ghz if clock <= clock_ghz + 1e-9]
    if not allowed:
        raise ValueError(f"{clock_ghz} GHz is below the lowest clock of {gpu.product}, {gpu.clock_min_ghz} GHz")
    if load.is_empty:
        return RunStep(allowed[-1], step_time(gpu, model, load, allowed[-1]), gpu.idle_watts)
    for clock in reversed(allowed):
        time = step_time(gpu, model, load, clock, tensor_parallel)
        watts = power_watts(gpu, clock, time.compute_share, time.memory_share)
        if watts <= gpu.tdp_watts:
            break
    return RunStep(clock, time, watts)
