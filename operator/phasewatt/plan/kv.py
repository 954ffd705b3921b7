"""Does the KV cache really come from prefill? A verdict from decode's own counters.

Disaggregation fails silently: when a transfer does not happen, decode computes the prompt again and answers HTTP 200.
So the path counts as working only while decode shows that it received the tokens it should have received.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from phasewatt.api.v1alpha1 import Transport
from phasewatt.plan.types import KVTraffic

ENOUGH = 0.9
"""Share of the transferable tokens that has to come from prefill."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Status, reason and message of the condition KVTransferVerified."""

    status: str
    reason: str
    message: str


def transferable(traffic: KVTraffic) -> int:
    """Prompt tokens that prefill had to deliver, at least.

    Only full blocks move, so decode may compute up to one block per request; what it had cached needs no transfer.
    """
    fresh = traffic.transferred + traffic.recomputed
    return max(0, fresh - traffic.requests * traffic.block_size)


def total(traffic: Mapping[str, KVTraffic]) -> KVTraffic:
    """Traffic of all decode engines together; the block size is that of any, they are all the same."""
    parts = list(traffic.values())
    return KVTraffic(
        requests=sum(part.requests for part in parts),
        transferred=sum(part.transferred for part in parts),
        recomputed=sum(part.recomputed for part in parts),
        cached=sum(part.cached for part in parts),
        failed_transfers=sum(part.failed_transfers for part in parts),
        bytes=sum(part.bytes for part in parts),
        seconds=sum(part.seconds for part in parts),
        block_size=parts[0].block_size if parts else KVTraffic().block_size,
    )


def verdict(traffic: Mapping[str, KVTraffic], transport: Transport) -> Verdict:
    """The verdict over all decode engines, by their names: one that recomputes is enough for False."""
    for name, part in sorted(traffic.items()):
        if part.transferred < ENOUGH * transferable(part):
            return _bad(name, part, transport)
    whole = total(traffic)
    if whole.transferred == 0:
        return _unknown(whole)
    return _good(whole, transport)


def _unknown(whole: KVTraffic) -> Verdict:
    if whole.requests == 0:
        return Verdict("Unknown", "NoTraffic", "No request has reached decode yet: send one to prove the KV path.")
    return Verdict(
        "Unknown",
        "NoTraffic",
        f"Only full blocks of {whole.block_size} tokens move between engines, and no prompt so far had one that "
        "decode did not hold already: a longer, new prompt proves the KV path.",
    )


def _good(whole: KVTraffic, transport: Transport) -> Verdict:
    speed = f" at {whole.bytes / whole.seconds / 1e9:.2g} GB/s" if whole.seconds > 0 else ""
    failed = f" {_count(whole.failed_transfers, 'transfer')} failed." if whole.failed_transfers else ""
    return Verdict(
        "True",
        "Transferred",
        f"Decode got {whole.transferred:,} prompt tokens from prefill{speed} over {transport.value} and computed "
        f"{whole.recomputed:,} itself.{failed}",
    )


def _bad(name: str, part: KVTraffic, transport: Transport) -> Verdict:
    counts = (
        f"{name} got {part.transferred:,} of at least {transferable(part):,} prompt tokens from prefill and computed "
        f"{part.recomputed:,} itself, in {_count(part.requests, 'request')}."
    )
    if part.failed_transfers:
        return Verdict(
            "False",
            "TransferFailed",
            f"{counts} {_count(part.failed_transfers, 'transfer')} failed over {transport.value}. {_CAUSE[transport]} "
            "The log of decode names the error; a prefill engine that was replaced heals with the next requests.",
        )
    return Verdict(
        "False",
        "DecodeRecomputes",
        f"{counts} The likely causes: requests that reach decode without passing the router of their group, or engine "
        "arguments that differ between prefill and decode. Send requests to the endpoint in status, and put arguments "
        "that change the model or its KV cache in spec.engine.args.",
    )


_CAUSE = {
    Transport.HOST: "Decode must reach prefill by TCP, also on ephemeral ports: check the NetworkPolicies.",
    Transport.CUDA_IPC: "The GPUs must be able to reach each other: check `nvidia-smi topo -p2p r`, or set "
    "spec.kvTransfer.nixl.transport to Host.",
}


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
