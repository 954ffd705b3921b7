"""What an administrator sets on the operator. The chart's values and the command line both end here."""

from __future__ import annotations

from dataclasses import dataclass

from phasewatt.plan.types import Settings


@dataclass(frozen=True, slots=True)
class Options:
    """Periods are in seconds. No namespaces means all; no kubeconfig means the pod's service account."""

    settings: Settings
    namespaces: tuple[str, ...] = ()
    http_port: int = 8080
    workers: int = 8
    resync: float = 600.0
    scrape_interval: float = 15.0
    kubeconfig: str | None = None
