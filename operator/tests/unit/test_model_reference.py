"""The analytic model against the derived figures of its two sources.

Li et al., "Revisiting Disaggregated LLM Serving": A100-40-PCIe, Llama-3.2-3B, prompts of 16,384 tokens.
Ruf & Detyniecki, "The Cost of Context": A100-80-PCIe, Llama-3.1-8B and Qwen2-7B.
"""

import pytest
from phasewatt.model.catalogue import (
    A100_40_PCIE,
    A100_80_PCIE,
    GIB,
    GPUS,
    LLAMA_3_1_8B,
    LLAMA_3_2_3B,
    MODELS,
    QWEN2_7B,
    find_gpu,
    find_model,
)
from phasewatt.model.flops import prompt_flops
from phasewatt.model.kv import admission_cap, kv_blocks, kv_bytes, kv_bytes_per_token, kv_pool_bytes
from phasewatt.model.power import blocked_watts, run_step, voltage
from phasewatt.model.step import PrefillChunk, StepLoad
from phasewatt.model.timing import decode_step, prefill
from phasewatt.model.transfer import Transport, transfer_seconds, wire_seconds

WITHIN_3_PERCENT = 0.03
PROMPT, OUTPUT = 16_384, 256
MEAN_CONTEXT = PROMPT + OUTPUT // 2
TOP = 1.41


def near(value: float) -> object:
    return pytest.approx(value, rel=WITHIN_3_PERCENT)


@pytest.mark.parametrize(("model", "kib"), [(LLAMA_3_2_3B, 112), (LLAMA_3_1_8B, 128), (QWEN2_7B, 56)])
def test_kv_per_token_is_exact(model, kib):
    assert kv_bytes_per_token(model) == kib * 1024


@pytest.mark.parametrize(("requests", "gib"), [(1, 1.75), (2, 3.5), (64, 112)])
def test_kv_per_prompt_is_exact(requests, gib):
    assert requests * kv_bytes(LLAMA_3_2_3B, PROMPT) == gib * GIB


@pytest.mark.parametrize(
    ("model", "linear", "total"),
    [(LLAMA_3_2_3B, 2.819e9, 3.213e9), (LLAMA_3_1_8B, 6.979e9, 8.030e9), (QWEN2_7B, 6.525e9, 7.615e9)],
)
def test_parameter_counts(model, linear, total):
    assert model.linear_parameters == pytest.approx(linear, rel=1e-3)
    assert model.parameters == pytest.approx(total, rel=1e-3)


def test_28_gib_of_kv_remain_at_90_percent_and_hold_15_requests():
    pool = kv_pool_bytes(A100_40_PCIE, LLAMA_3_2_3B, 0.9)
    assert pool / GIB == pytest.approx(28, rel=0.001)
    assert admission_cap(28 * GIB, LLAMA_3_2_3B, PROMPT, OUTPUT) == 15
    assert kv_blocks(28 * GIB // kv_bytes_per_token(LLAMA_3_2_3B)) == 16_384


def test_prefill_chunk_runs_into_the_power_limit():
    step = run_step(A100_40_PCIE, LLAMA_3_2_3B, StepLoad(prefill=(PrefillChunk(2048, 8192),)), TOP)
    assert step.time.total_s == near(0.102)
    assert step.watts == near(249)
    assert step.clock_ghz == pytest.approx(1.26, abs=0.015)


def test_prompt_of_16k_tokens():
    phase = prefill(A100_40_PCIE, LLAMA_3_2_3B, PROMPT, TOP)
    assert phase.seconds == near(0.785)
    assert prompt_flops(LLAMA_3_2_3B, PROMPT) / phase.seconds == near(177e12)


@pytest.mark.parametrize(
    ("batch", "milliseconds", "joules_per_token"),
    [(1, 10.7, 1.54), (4, 15.3, 0.58), (8, 21.3, 0.42), (16, 33.5, 0.34)],
)
def test_decode_step_time_and_energy(batch, milliseconds, joules_per_token):
    step = decode_step(A100_40_PCIE, LLAMA_3_2_3B, batch, MEAN_CONTEXT, TOP)
    assert step.time.total_s * 1e3 == near(milliseconds)
    assert step.joules / batch == near(joules_per_token)


@pytest.mark.parametrize(("tokens", "seconds"), [(1024, 0.078), (16_384, 1.56), (32_768, 3.84), (112_000, 25.0)])
def test_prefill_of_the_8b_model(tokens, seconds):
    assert prefill(A100_80_PCIE, LLAMA_3_1_8B, tokens, TOP).seconds == near(seconds)


def test_long_prefill_power_plateau():
    step = run_step(A100_80_PCIE, LLAMA_3_1_8B, StepLoad(prefill=(PrefillChunk(2048, 100_000),)), TOP)
    assert step.watts == near(298)
    assert step.clock_ghz == pytest.approx(1.34, abs=0.015)


@pytest.mark.parametrize(("context", "milliseconds"), [(1024, 13.3), (112_000, 22.2)])
def test_decode_of_the_8b_model(context, milliseconds):
    assert decode_step(A100_80_PCIE, LLAMA_3_1_8B, 1, context, TOP).time.total_s * 1e3 == near(milliseconds)


def test_measured_long_prefill_of_the_8b_model():
    """The paper's Hugging Face row: 25.54 s and 7,600 J for about 112k tokens."""
    phase = prefill(A100_80_PCIE, LLAMA_3_1_8B, 112_050, TOP)
    assert phase.seconds == near(25.54)
    assert phase.joules == near(7600)


def test_transfer_of_one_prompt():
    size = kv_bytes(LLAMA_3_2_3B, PROMPT)
    assert wire_seconds(Transport.CUDA_IPC, size) == pytest.approx(size / 11e9)
    assert transfer_seconds(Transport.CUDA_IPC, size) == pytest.approx(size / 11e9 + 0.020)
    assert wire_seconds(Transport.DISK, size) == pytest.approx(size * (2 / 9e9 + 1 / 2e9 + 1 / 3e9))
    order = [Transport.CUDA_IPC, Transport.SHM, Transport.DISK, Transport.TCP]
    times = [transfer_seconds(transport, size) for transport in order]
    assert times == sorted(times)


def test_an_idle_gpu_and_a_blocked_one():
    idle = run_step(A100_40_PCIE, LLAMA_3_2_3B, StepLoad(), TOP)
    assert (idle.time.total_s, idle.watts, idle.joules) == (0, 55, 0)
    assert blocked_watts(A100_40_PCIE) == pytest.approx(55 + 0.3 * 60)


def test_voltage_floor_and_top():
    assert voltage(A100_40_PCIE, 0.3) == voltage(A100_40_PCIE, 0.765) == 0.74
    assert voltage(A100_40_PCIE, TOP) == pytest.approx(1)


def test_supported_clocks_are_the_15_mhz_grid():
    clocks = A100_40_PCIE.supported_clocks_ghz
    assert (clocks[0], clocks[-1], len(clocks)) == (0.21, 1.41, 81)
    assert 0.81 in clocks


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("meta-llama/Llama-3.2-3B-Instruct", "Llama-3.2-3B"),
        ("/models/llama-3.2-3b", "Llama-3.2-3B"),
        ("/models/Llama-3.1-8B/", "Llama-3.1-8B"),
        ("Qwen/Qwen2-7B-Instruct", "Qwen2-7B"),
        ("tiny", "tiny"),
    ],
)
def test_models_are_found_by_name_and_path(reference, name):
    assert find_model(reference) is MODELS[name]


@pytest.mark.parametrize("reference", ["gpt2", "Llama-3.2-30B", "/models/", ""])
def test_unknown_models_are_refused_with_the_known_ones(reference):
    with pytest.raises(LookupError, match=r"Llama-3\.2-3B"):
        find_model(reference)


def test_unknown_gpus_are_refused_with_the_known_ones():
    assert find_gpu("A100-80-PCIe") is GPUS["A100-80-PCIe"]
    with pytest.raises(LookupError, match="A100-40-PCIe"):
        find_gpu("H100")
