"""docs/metrics.md lists the operator's metrics as they are, and asks only for series that exist."""

from __future__ import annotations

import re

from helm_chart import REPO
from phasewatt.controllers.metrics import Metrics

PAGE = (REPO / "docs" / "metrics.md").read_text()
SUFFIX = {"counter": "_total", "info": "_info"}
SERIES = re.compile(r"\b(?:phasewatt_|vllm:|vllm_router_)[a-z0-9_]+")


def rows() -> dict[str, str]:
    """One row of the table per metric of our own, by the name that Prometheus shows."""
    metrics = Metrics()
    labels = {getattr(metric, "_name", ""): getattr(metric, "_labelnames", ()) for metric in vars(metrics).values()}
    found = {}
    for family in metrics.registry.collect():
        if not family.name.startswith("phasewatt_"):
            continue
        name = family.name + SUFFIX.get(family.type, "")
        # Families that are made when asked carry their labels themselves.
        own = (
            labels.get(family.name)
            or getattr(family, "_labelnames", ())
            or [k for s in family.samples for k in s.labels]
        )
        shown = f"{name}{{{','.join(own)}}}" if own and family.type != "histogram" else name
        found[name] = f"| `{shown}` | {family.type} | {family.documentation} |"
    return found


def test_the_table_is_complete() -> None:
    table = "\n".join(["| Series | Kind | Meaning |", "|---|---|---|", *rows().values()])
    assert table in PAGE, f"put this table into docs/metrics.md:\n{table}"


def test_queries_name_series_of_the_operator_that_exist() -> None:
    asked = {name for block in re.findall(r"```promql\n(.*?)```", PAGE, re.DOTALL) for name in SERIES.findall(block)}
    ours = {name for name in asked if name.startswith("phasewatt_")}
    assert len(ours) >= 4
    assert ours <= rows().keys()
