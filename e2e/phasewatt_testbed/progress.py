"""Progress lines: what is being done, how long it took."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

console = Console(stderr=True, highlight=False)


def say(text: str) -> None:
    """Print one line of progress on standard error."""
    console.print(text, soft_wrap=True)


@contextmanager
def step(what: str, *, hint: str = "") -> Iterator[None]:
    """Announce a step, then print its wall time in seconds, whether it succeeds or not."""
    say(f"[cyan]>[/] {what}" + (f" [dim]({hint})[/]" if hint else ""))
    start = time.monotonic()
    outcome = "[red]failed[/]"
    try:
        yield
        outcome = "[green]done[/]"
    finally:
        say(f"  {outcome} [dim]{what}[/] in {time.monotonic() - start:.1f} s")
