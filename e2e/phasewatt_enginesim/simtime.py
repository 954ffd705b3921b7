"""Simulated time: the wall clock, run `scale` times faster.

All latencies the engine takes and reports are in simulated seconds, so that a run at any scale shows the same TTFT,
TPOT and GB/s. What other processes set the pace of stays in wall seconds: KV leases, heartbeats, drains, faults.
"""

import asyncio
import time


class SimClock:
    """Simulated seconds since the process started.

    Raises:
        ValueError: the scale is not positive.
    """

    def __init__(self, scale: float) -> None:
        if scale <= 0:
            raise ValueError(f"the time scale must be positive, got {scale}")
        self.scale = scale
        self._start = time.monotonic()

    def now(self) -> float:
        """The present simulated time, in s."""
        return (time.monotonic() - self._start) * self.scale

    async def sleep_until(self, simulated: float) -> None:
        """Sleep until that simulated time; yields to other tasks even when it has passed."""
        await asyncio.sleep(max(0.0, (simulated - self.now()) / self.scale))

    async def sleep(self, simulated_s: float) -> None:
        """Sleep for that many simulated seconds."""
        await self.sleep_until(self.now() + simulated_s)
