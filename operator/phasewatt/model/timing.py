"""Times and energies of whole phases: a prompt's chunked prefill and a decode step of a batch.

Chunked prefill follows vLLM's scheduler: chunks of `max_num_batched_tokens`, 2,048 by default on an A100.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from phasewatt.model.catalogue import Gpu, Model
from phasewatt.model.power import RunStep, run_step
from phasewatt.model.step import PrefillChunk, StepLoad

DEFAULT_CHUNK_TOKENS = 2048


@dataclass(frozen=True, slots=True)
class Phase:
    """Seconds and joules (per GPU) of a sequence of steps."""

    seconds: float
    joules: float

    @property
    def watts(self) -> float:
        """Average power per GPU in W; 0 for an empty phase."""
        return self.joules / self.seconds if self.seconds else 0.0


def prefill_chunks(tokens: int, chunk_tokens: int = DEFAULT_CHUNK_TOKENS, cached: int = 0) -> Iterator[PrefillChunk]:
    """The chunks of a prompt of `tokens` tokens of which the first `cached` have their KV already.

    Raises:
        ValueError: `chunk_tokens` is not positive.
    """
    if chunk_tokens <= 0:
        raise ValueError(f"chunk_tokens must be positive, got {chunk_tokens}")
    for start in range(cached, tokens, chunk_tokens):
        yield PrefillChunk(new=min(chunk_tokens, tokens - start), cached=start)


def prefill(
    gpu: Gpu,
    model: Model,
    tokens: int,
    clock_ghz: float,
    chunk_tokens: int = DEFAULT_CHUNK_TOKENS,
    tensor_parallel: int = 1,
) -> Phase:
    """Prefill of one prompt that has the engine to itself."""
    steps = [
        run_step(gpu, model, StepLoad(prefill=(chunk,)), clock_ghz, tensor_parallel)
        for chunk in prefill_chunks(tokens, chunk_tokens)
    ]
    return Phase(sum(step.time.total_s for step in steps), sum(step.joules for step in steps))


def decode_step(
    gpu: Gpu, model: Model, batch: int, context_tokens: int, clock_ghz: float, tensor_parallel: int = 1
) -> RunStep:
    """One decode step of `batch` requests, each with a context of `context_tokens` tokens."""
    load = StepLoad(decode_requests=batch, decode_context_tokens=batch * context_tokens)
    return run_step(gpu, model, load, clock_ghz, tensor_parallel)
