"""The leases on blocks that a prefill engine keeps for their reader. Pure: callers bring the time, in wall seconds."""


class LeaseTable:
    """Request ids and when their lease ends; a heartbeat only ever lengthens a lease."""

    def __init__(self, duration_s: float) -> None:
        self.duration_s = duration_s
        self._ends: dict[str, float] = {}

    @property
    def extension_s(self) -> float:
        """What a heartbeat grants from its arrival: two thirds of the first lease, as in vLLM."""
        return self.duration_s * 2 // 3

    def __len__(self) -> int:
        return len(self._ends)

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._ends

    def hold(self, request_id: str, now: float) -> None:
        """Start a lease."""
        self._ends[request_id] = now + self.duration_s

    def extend(self, request_id: str, now: float) -> None:
        """Lengthen a lease; unknown requests are ignored, as in vLLM."""
        if request_id in self._ends:
            self._ends[request_id] = max(self._ends[request_id], now + self.extension_s)

    def release(self, request_id: str) -> bool:
        """End a lease; whether there was one."""
        return self._ends.pop(request_id, None) is not None

    def expire(self, now: float) -> list[str]:
        """End and return the leases whose time has come."""
        expired = [request_id for request_id, end in self._ends.items() if now >= end]
        for request_id in expired:
            del self._ends[request_id]
        return expired

    def next_end(self) -> float | None:
        """When the next lease ends."""
        return min(self._ends.values(), default=None)
