"""The pool of KV blocks: who holds which block."""

from phasewatt.model.kv import kv_blocks


class KVPool:
    """`total` blocks of `block_tokens` tokens each, held by request id. A block is never held twice."""

    def __init__(self, total: int, block_tokens: int) -> None:
        self.total = total
        self.block_tokens = block_tokens
        self._held: dict[str, list[int]] = {}
        self._returned: list[int] = []
        self._untouched = 0

    @property
    def free(self) -> int:
        """Blocks nobody holds."""
        return self.total - self._untouched + len(self._returned)

    @property
    def usage(self) -> float:
        """Share of the pool that is held, 0-1."""
        return 1 - self.free / self.total

    def blocks(self, request_id: str) -> list[int]:
        """The blocks a request holds, in the order of its tokens."""
        return list(self._held.get(request_id, ()))

    def holds(self, request_id: str) -> bool:
        """Whether a request has blocks."""
        return request_id in self._held

    def grow(self, request_id: str, tokens: int) -> bool:
        """Give a request enough blocks for `tokens` tokens; False, and no change, when the pool has too few."""
        needed = kv_blocks(tokens, self.block_tokens) - len(self._held.get(request_id, ()))
        if needed > self.free:
            return False
        if needed > 0:
            self._held.setdefault(request_id, []).extend(self._take() for _ in range(needed))
        return True

    def release(self, request_id: str) -> None:
        """Take back all blocks of a request; a request without blocks is fine."""
        self._returned.extend(self._held.pop(request_id, ()))

    def _take(self) -> int:
        if self._returned:
            return self._returned.pop()
        self._untouched += 1
        return self._untouched - 1
