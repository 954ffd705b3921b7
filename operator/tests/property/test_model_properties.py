"""What must hold for the analytic model whatever the numbers are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from phasewatt.model.catalogue import GPUS, MODELS
from phasewatt.model.flops import attention_flops, head_flops, linear_flops, prompt_flops
from phasewatt.model.kv import admission_cap, kv_blocks, kv_bytes
from phasewatt.model.power import power_watts, run_step
from phasewatt.model.step import PrefillChunk, StepLoad, step_time
from phasewatt.model.timing import decode_step, prefill, prefill_chunks
from phasewatt.model.transfer import LINKS, Transport, transfer_seconds

gpus = st.sampled_from(list(GPUS.values()))
models = st.sampled_from(list(MODELS.values()))
tokens = st.integers(1, 200_000)
batches = st.integers(1, 256)
shares = st.floats(0, 1)


@st.composite
def clocks(draw):
    return draw(st.sampled_from(GPUS["A100-40-PCIe"].supported_clocks_ghz))


@st.composite
def loads(draw):
    chunks = draw(
        st.lists(st.builds(PrefillChunk, new=st.integers(1, 2048), cached=st.integers(0, 50_000)), max_size=4)
    )
    decoding = draw(st.integers(0 if chunks else 1, 64))
    return StepLoad(tuple(chunks), decoding, decoding * draw(st.integers(1, 50_000)))


@given(models, tokens, tokens)
def test_kv_and_flops_grow_with_tokens(model, a, b):
    low, high = sorted((a, b))
    assert kv_bytes(model, low) + kv_bytes(model, high) == kv_bytes(model, low + high)
    assert prompt_flops(model, low) <= prompt_flops(model, high)


@given(models, tokens, st.data())
def test_a_cached_prefix_saves_exactly_its_own_work(model, total, data):
    cached = data.draw(st.integers(0, total))
    prefix = linear_flops(model, cached) + attention_flops(model, cached, 0)
    head = head_flops(model, 1) if cached == total else 0
    assert prompt_flops(model, total) - prompt_flops(model, total, cached) == prefix + head


@given(tokens, st.integers(1, 256))
def test_blocks_hold_the_tokens_with_less_than_one_to_spare(count, block):
    assert 0 <= kv_blocks(count, block) * block - count < block


@given(tokens, st.integers(64, 9000), st.integers(0, 50_000))
def test_chunks_cover_the_uncached_prompt_in_order(total, chunk, cached):
    position = cached
    for piece in prefill_chunks(total, chunk, cached):
        assert piece.cached == position
        assert 0 < piece.new <= chunk
        position += piece.new
    assert position == max(total, cached)


@given(gpus, models, loads(), clocks(), clocks())
def test_a_faster_clock_never_makes_a_step_longer(gpu, model, load, a, b):
    slow, fast = sorted((a, b))
    assert step_time(gpu, model, load, slow).total_s >= step_time(gpu, model, load, fast).total_s
    assert run_step(gpu, model, load, slow).time.total_s >= run_step(gpu, model, load, fast).time.total_s


@given(gpus, models, loads(), clocks())
def test_a_step_stays_within_the_power_limit_and_the_asked_clock(gpu, model, load, clock):
    step = run_step(gpu, model, load, clock)
    assert gpu.idle_watts < step.watts <= gpu.tdp_watts
    assert step.clock_ghz <= clock
    assert step.joules == pytest.approx(step.watts * step.time.total_s)
    assert 0 <= step.time.compute_share <= 1
    assert 0 <= step.time.memory_share <= 1


@given(gpus, clocks(), clocks(), shares, shares, shares)
def test_power_grows_with_clock_and_activity(gpu, a, b, compute, memory, less):
    slow, fast = sorted((a, b))
    assert power_watts(gpu, slow, compute, memory) <= power_watts(gpu, fast, compute, memory)
    assert power_watts(gpu, fast, compute * less, memory * less) <= power_watts(gpu, fast, compute, memory)


@given(gpus, models, batches, batches, st.integers(1, 50_000), clocks())
def test_a_larger_batch_is_slower_per_step_and_cheaper_per_token(gpu, model, a, b, context, clock):
    small, large = sorted((a, b))
    one, other = (decode_step(gpu, model, batch, context, clock) for batch in (small, large))
    assert one.time.total_s <= other.time.total_s
    assert one.time.total_s / small >= other.time.total_s / large * (1 - 1e-9)


@given(gpus, models, st.integers(1, 40_000), st.integers(1, 40_000), clocks())
def test_a_longer_prompt_takes_longer_and_more_energy(gpu, model, a, b, clock):
    short, long = sorted((a, b))
    one, other = prefill(gpu, model, short, clock), prefill(gpu, model, long, clock)
    assert one.seconds <= other.seconds
    assert one.joules <= other.joules


@given(gpus, models, loads(), clocks(), st.sampled_from([2, 4, 8]))
def test_tensor_parallel_divides_all_but_the_overhead(gpu, model, load, clock, ranks):
    one, many = step_time(gpu, model, load, clock), step_time(gpu, model, load, clock, ranks)
    assert many.total_s - gpu.step_overhead_s == pytest.approx((one.total_s - gpu.step_overhead_s) / ranks)


@given(st.integers(0, 2**40), models, st.integers(1, 30_000), st.integers(0, 4000))
def test_the_admission_cap_is_the_most_that_fits(pool, model, prompt, output):
    cap = admission_cap(pool, model, prompt, output)
    need = kv_bytes(model, prompt + output)
    assert cap * need <= pool < (cap + 1) * need


@given(st.sampled_from(list(Transport)), st.integers(0, 2**40), st.integers(0, 2**40))
def test_more_bytes_take_longer(transport, a, b):
    small, large = sorted((a, b))
    assert LINKS[transport].setup_s <= transfer_seconds(transport, small) <= transfer_seconds(transport, large)


@given(gpus, models, loads())
def test_a_clock_below_the_range_is_refused(gpu, model, load):
    with pytest.raises(ValueError, match="lowest clock"):
        run_step(gpu, model, load, gpu.clock_min_ghz - 0.015)
