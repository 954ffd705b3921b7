"""Faults that a test can ask for: at start by `PHASEWATT_SIM_<FAULT>` or `--sim-faults`, live by `/sim/faults`."""

import asyncio
import logging
import os

from pydantic import BaseModel, ConfigDict, Field

log = logging.getLogger(__name__)


class Faults(BaseModel):
    """The faults in force. Seconds are wall seconds; every default means no fault."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    start_delay_s: float = Field(default=0, ge=0, description="Wait this long before the HTTP port opens.")
    crash_at_start: str | None = Field(default=None, description="Log this line and exit before the port opens.")
    crash: bool = Field(default=False, description="Log `crash_message` and exit now.")
    crash_after_requests: int | None = Field(default=None, ge=1, description="Exit when so many requests finished.")
    crash_exit_code: int = Field(default=1, ge=0, le=255, description="Exit code of any crash.")
    crash_message: str = Field(default="EngineCore encountered a fatal error.", description="Its last log line.")
    hang: bool = Field(default=False, description="Stop stepping; `/health` stays 200, as for a stuck vLLM.")
    engine_dead: bool = Field(default=False, description="`/health` answers 503, requests 500.")
    slow_factor: float = Field(default=1, gt=0, description="Every engine step takes this many times longer.")
    kv_miss_ratio: float = Field(
        default=0, ge=0, le=1, description="Share of remote prefills whose KV is not found and is recomputed here."
    )


class FaultBoard:
    """The faults in force now, and what depends on how often they were asked."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self._changed = asyncio.Event()
        self._misses_due = 0.0
        self._finished = 0

    def update(self, changes: dict[str, object]) -> Faults:
        """Change some faults; the others stay.

        Raises:
            pydantic.ValidationError: an unknown fault or a value out of range.
        """
        self.faults = Faults.model_validate({**self.faults.model_dump(), **changes})
        self._changed.set()
        self._changed = asyncio.Event()
        if self.faults.crash:
            self.crash_now()
        return self.faults

    def clear(self) -> Faults:
        """End all faults."""
        return self.update(Faults().model_dump())

    async def wait_while_hung(self) -> None:
        """Return at once, or when the hang ends."""
        while self.faults.hang:
            await self._changed.wait()

    def next_pull_misses(self) -> bool:
        """Whether the next remote prefill is to find nothing; exact over any run of requests, no randomness."""
        self._misses_due += self.faults.kv_miss_ratio
        missed = self._misses_due >= 1 - 1e-9
        self._misses_due -= missed
        return missed

    def request_finished(self) -> None:
        """Count a finished request, and crash when it was the last one allowed."""
        self._finished += 1
        if self.faults.crash_after_requests is not None and self._finished >= self.faults.crash_after_requests:
            self.crash_now()

    def crash_now(self) -> None:
        """End the process as a crash does: one last log line, no clean-up."""
        log.critical(self.faults.crash_at_start or self.faults.crash_message)
        logging.shutdown()
        os._exit(self.faults.crash_exit_code)
