"""The verdict on the KV path."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from phasewatt.api.v1alpha1 import Transport
from phasewatt.plan.kv import transferable, verdict
from phasewatt.plan.types import KVTraffic

HOST = Transport.HOST


@pytest.mark.parametrize("traffic", [{}, {"d": KVTraffic()}])
def test_unknown_before_traffic(traffic: dict[str, KVTraffic]):
    found = verdict(traffic, HOST)
    assert (found.status, found.reason) == ("Unknown", "NoTraffic")


def test_unknown_while_prompts_are_shorter_than_a_block():
    found = verdict({"d": KVTraffic(requests=3, recomputed=300, block_size=128)}, HOST)
    assert found.status == "Unknown"
    assert "blocks of 128 tokens" in found.message


def test_true_when_all_full_blocks_moved():
    found = verdict({"d": KVTraffic(requests=2, transferred=2048, recomputed=20, bytes=9.8e9, seconds=1.0)}, HOST)
    assert found.status == "True"
    assert found.message == "Decode got 2,048 prompt tokens from prefill at 9.8 GB/s over Host and computed 20 itself."


def test_false_when_decode_computes_what_it_should_have_got():
    found = verdict({"d": KVTraffic(requests=2, transferred=100, recomputed=2000)}, HOST)
    assert (found.status, found.reason) == ("False", "DecodeRecomputes")
    assert "d got 100 of at least 2,068 prompt tokens" in found.message


def test_failed_transfers_are_named_as_the_cause():
    found = verdict({"d": KVTraffic(requests=1, recomputed=2000, failed_transfers=1)}, Transport.CUDA_IPC)
    assert (found.status, found.reason) == ("False", "TransferFailed")
    assert "1 transfer failed over CudaIPC" in found.message


def test_one_engine_that_recomputes_is_not_hidden_by_another():
    good = KVTraffic(requests=100, transferred=1_000_000)
    bad = KVTraffic(requests=2, recomputed=2000)
    assert verdict({"a": good, "b": bad}, HOST).message.startswith("b got 0 of")


def test_what_decode_had_cached_needs_no_transfer():
    assert transferable(KVTraffic(requests=1, cached=5000, recomputed=16)) == 0


@given(
    st.builds(
        KVTraffic,
        requests=st.integers(0, 1000),
        transferred=st.integers(0, 10**7),
        recomputed=st.integers(0, 10**7),
        cached=st.integers(0, 10**7),
        block_size=st.sampled_from([1, 16, 128]),
    )
)
def test_the_verdict_turns_at_nine_tenths(traffic: KVTraffic):
    found = verdict({"d": traffic}, HOST)
    enough = traffic.transferred >= 0.9 * transferable(traffic)
    assert (found.status == "False") is not enough
    assert (found.status == "True") is (enough and traffic.transferred > 0)
