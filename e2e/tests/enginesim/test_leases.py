"""Leases on blocks that wait for their reader, and who may read."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from phasewatt_enginesim.cli import parse
from phasewatt_enginesim.nixl.compatibility import compatibility_hash, refuses_tensor_parallel
from phasewatt_enginesim.nixl.leases import LeaseTable

CONFIG = parse(["serve", "Llama-3.2-3B"], {})[0]


def test_life_of_a_lease() -> None:
    table = LeaseTable(30)
    table.hold("a", now=0)
    assert table.next_end() == 30
    assert table.expire(29.9) == []
    table.extend("a", now=29)
    assert table.next_end() == 49
    assert table.expire(49) == ["a"]
    assert table.next_end() is None
    assert not table.release("a")


def test_release_works_once() -> None:
    table = LeaseTable(30)
    table.hold("a", now=0)
    assert "a" in table
    assert table.release("a")
    assert not table.release("a")
    table.extend("a", now=1)
    assert len(table) == 0


@given(st.integers(1, 100), st.lists(st.floats(0, 1000)))
def test_a_heartbeat_never_shortens_a_lease(duration: int, beats: list[float]) -> None:
    table = LeaseTable(duration)
    table.hold("a", now=0)
    ends = [table.next_end()]
    for beat in beats:
        table.extend("a", beat)
        ends.append(table.next_end())
    assert ends == sorted(ends, key=lambda end: end or 0)


@pytest.mark.parametrize(
    "change",
    [
        {"model_reference": "/models/Llama-3.2-3B"},
        {"dtype": "float16"},
        {"kv_cache_dtype": "fp8"},
        {"model": replace(CONFIG.model, kv_heads=4)},
    ],
)
def test_what_must_be_equal_changes_the_compatibility_hash(change: dict[str, object]) -> None:
    assert compatibility_hash(replace(CONFIG, **change)) != compatibility_hash(CONFIG)


@pytest.mark.parametrize("change", [{"tensor_parallel": 2}, {"block_tokens": 32}, {"port": 1}, {"max_num_seqs": 3}])
def test_what_may_differ_does_not(change: dict[str, object]) -> None:
    assert compatibility_hash(replace(CONFIG, **change)) == compatibility_hash(CONFIG)


@pytest.mark.parametrize(
    ("prefill", "decode", "kv_heads", "refused"),
    [(1, 1, 8, False), (2, 1, 8, False), (1, 4, 2, False), (4, 2, 2, True), (8, 8, 2, False), (16, 8, 8, True)],
)
def test_only_replicated_kv_heads_on_more_prefill_ranks_are_refused(
    prefill: int, decode: int, kv_heads: int, refused: bool
) -> None:
    assert refuses_tensor_parallel(prefill, decode, kv_heads) is refused


def test_lease_and_policy_come_from_the_transfer_config() -> None:
    text = json.dumps(
        {
            "kv_connector": "NixlConnector",
            "kv_role": "kv_consumer",
            "kv_load_failure_policy": "recompute",
            "kv_connector_extra_config": {"kv_lease_duration": 90, "backends": ["UCX"]},
        }
    )
    transfer = parse(["serve", "Llama-3.2-3B", "--kv-transfer-config", text], {})[0].kv_transfer
    assert transfer is not None
    assert (transfer.lease_s, transfer.kv_load_failure_policy, transfer.is_consumer) == (90, "recompute", True)
