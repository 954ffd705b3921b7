"""Continuous batching and the KV pool, without a clock."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from phasewatt.model.step import PrefillChunk
from phasewatt_enginesim.engine.kvpool import KVPool
from phasewatt_enginesim.engine.request import Request, Status
from phasewatt_enginesim.engine.scheduler import Scheduler, Step

REMOTE = {"do_remote_prefill": True}
serial = itertools.count()


def request(prompt: int, output: int = 4, params: dict[str, object] | None = None) -> Request:
    return Request(
        request_id=str(next(serial)),
        prompt_tokens=prompt,
        seed=b"",
        max_tokens=output,
        natural_length=None,
        emit=lambda _: None,
        kv_transfer_params=params,
    )


def scheduler(blocks: int = 1000, seqs: int = 256, budget: int = 2048) -> Scheduler:
    return Scheduler(KVPool(blocks, 16), seqs, budget)


def compute(scheduled: Scheduler, step: Step) -> list[Request]:
    """What the engine does with a step; returns the requests that finished in it."""
    finished = []
    for item, new in step.tokens.items():
        item.computed_tokens += new
        if item.computed_tokens == item.total_tokens:
            item.output_tokens += 1
            if item.finish_after_token():
                scheduled.remove(item)
                scheduled.pool.release(item.request_id)
                finished.append(item)
    return finished


def test_a_long_prompt_is_computed_in_chunks_of_the_budget() -> None:
    batch = scheduler()
    batch.add(request(5000))
    chunks = []
    for _ in range(3):
        step = batch.schedule()
        chunks += step.load().prefill
        compute(batch, step)
    assert chunks == [PrefillChunk(2048, 0), PrefillChunk(2048, 2048), PrefillChunk(904, 4096)]
    step = batch.schedule()
    assert step.load().prefill == ()
    assert (step.load().decode_requests, step.load().decode_context_tokens) == (1, 5001)


def test_decodes_go_first_and_prefill_gets_the_rest_of_the_budget() -> None:
    batch = scheduler(budget=100)
    first = request(50)
    batch.add(first)
    compute(batch, batch.schedule())
    second = request(500)
    batch.add(second)
    step = batch.schedule()
    assert step.tokens == {first: 1, second: 99}
    assert step.load().new_tokens == 100


def test_no_more_run_than_max_num_seqs() -> None:
    batch = scheduler(seqs=2)
    for _ in range(3):
        batch.add(request(10))
    assert len(batch.schedule().tokens) == 2
    assert len(batch.waiting) == 1


def test_the_youngest_is_preempted_and_recomputed_with_what_it_generated() -> None:
    batch = scheduler(blocks=4)
    old, young = request(31, 20), request(31, 20)
    batch.add(old)
    batch.add(young)
    for _ in range(2):
        compute(batch, batch.schedule())
    assert (old.total_tokens, young.total_tokens) == (33, 33)
    step = batch.schedule()
    assert step.preempted == [young]
    assert list(step.tokens) == [old]
    assert (young.status, young.computed_tokens, young.output_tokens, young.preemptions) == (Status.WAITING, 0, 2, 1)
    assert batch.pool.blocks(young.request_id) == []
    while old.status is not Status.FINISHED:
        compute(batch, step)
        step = batch.schedule()
    assert step.tokens == {young: 33}


def test_a_remote_prompt_holds_its_blocks_while_it_is_pulled_and_then_computes_one_token() -> None:
    batch = scheduler()
    remote = request(100, params=dict(REMOTE))
    batch.add(remote)
    step = batch.schedule()
    assert (step.fetches, step.tokens) == ([remote], {})
    assert (remote.status, remote.external_tokens) == (Status.FETCHING, 100)
    assert len(batch.pool.blocks(remote.request_id)) == 7
    assert batch.schedule() == Step()
    batch.fetched(remote, loaded=True)
    assert batch.schedule().tokens == {remote: 1}


def test_a_failed_pull_is_computed_from_the_start() -> None:
    batch = scheduler()
    remote = request(100, params=dict(REMOTE))
    batch.add(remote)
    batch.schedule()
    batch.fetched(remote, loaded=False)
    assert batch.pool.usage == 0
    assert batch.schedule().tokens == {remote: 100}
    assert remote.external_tokens == 0


def test_others_run_while_one_is_pulled() -> None:
    batch = scheduler()
    remote, local = request(100, params=dict(REMOTE)), request(10)
    batch.add(remote)
    batch.add(local)
    assert batch.schedule().tokens == {local: 10}


def test_a_full_pool_makes_requests_wait_in_order() -> None:
    batch = scheduler(blocks=10)
    big, bigger, small = request(100), request(150), request(10)
    for item in (big, bigger, small):
        batch.add(item)
    assert batch.schedule().tokens == {big: 100}
    assert list(batch.waiting) == [bigger, small]


sizes = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 10), st.booleans()), min_size=1, max_size=8)


@given(sizes, st.integers(4, 12), st.integers(1, 5), st.integers(2, 64))
@example(wanted=[(1, 1, False), (40, 10, True), (1, 1, True)], blocks=4, seqs=1, budget=2)
def test_every_request_finishes_and_no_block_is_lost(
    wanted: list[tuple[int, int, bool]], blocks: int, seqs: int, budget: int
) -> None:
    batch = scheduler(blocks, seqs, budget)
    requests = [request(prompt, output, dict(REMOTE) if remote else None) for prompt, output, remote in wanted]
    for item in requests:
        batch.add(item)
    finished: list[Request] = []
    for index in range(2_000):
        step = batch.schedule()
        assert sum(step.tokens.values()) <= budget
        assert len(batch.running) <= seqs
        held = [block for item in requests for block in batch.pool.blocks(item.request_id)]
        assert len(held) == len(set(held)) == blocks - batch.pool.free
        assert all(
            len(batch.pool.blocks(item.request_id)) * 16 >= item.computed_tokens + new
            for item, new in step.tokens.items()
        )
        finished += compute(batch, step)
        for number, item in enumerate(step.fetches):
            batch.fetched(item, loaded=(index + number) % 2 == 0)
        if len(finished) == len(requests):
            break
    assert {item.output_tokens - item.max_tokens for item in finished} == {0}
    assert len(finished) == len(requests)
    assert batch.pool.free == blocks


@given(st.integers(1, 50), st.integers(1, 32), st.lists(st.tuples(st.integers(0, 4), st.integers(0, 900))))
def test_the_pool_grows_exactly_or_not_at_all(total: int, block: int, asks: list[tuple[int, int]]) -> None:
    pool = KVPool(total, block)
    for owner, tokens in asks:
        before, free = pool.blocks(str(owner)), pool.free
        needed = max(0, -(-tokens // block) - len(before))
        assert pool.grow(str(owner), tokens) == (needed <= free)
        after = pool.blocks(str(owner))
        assert after[: len(before)] == before
        assert len(after) - len(before) == (needed if needed <= free else 0)
        assert pool.usage == pytest.approx(1 - pool.free / total)
    for owner in range(5):
        pool.release(str(owner))
    assert pool.free == total
