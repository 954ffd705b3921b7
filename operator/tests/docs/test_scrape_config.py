"""The documented scrape configuration and the chart's monitors find the same targets and label them alike."""

from __future__ import annotations

from typing import Any

import yaml
from helm_chart import MONITORS, REPO, of_kind, render
from pydantic.alias_generators import to_snake

MONITORED = {"metrics": {"serviceMonitor": {"enabled": True}, "podMonitor": {"enabled": True}}}
JOBS = {
    job["job_name"]: job
    for job in yaml.safe_load((REPO / "docs" / "prometheus-scrape.yaml").read_text())["scrape_configs"]
}
# The Prometheus Operator adds these rules by itself.
IMPLIED = {"namespace", "pod", "container"}


def own_rules(job: str) -> list[dict[str, Any]]:
    return [
        rule
        for rule in JOBS[job]["relabel_configs"]
        if rule.get("target_label") not in IMPLIED and rule.get("action") != "drop"
    ]


def test_workloads_are_labelled_as_by_the_pod_monitor() -> None:
    (monitor,) = of_kind(render(MONITORED, MONITORS), "PodMonitor")
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    rules = [{to_snake(key): value for key, value in rule.items()} for rule in endpoint["relabelings"]]
    assert own_rules("phasewatt-engines") == own_rules("phasewatt-routers") == rules
    assert {JOBS[f"phasewatt-{what}"]["scrape_interval"] for what in ("engines", "routers")} == {endpoint["interval"]}


def test_the_operators_own_labels_win() -> None:
    (monitor,) = of_kind(render(MONITORED, MONITORS), "ServiceMonitor")
    assert monitor["spec"]["endpoints"][0]["honorLabels"] is True
    assert JOBS["phasewatt-operator"]["honor_labels"] is True


def test_pods_are_selected_by_the_labels_they_carry() -> None:
    def selector(job: str) -> dict[str, str]:
        (discovery,) = JOBS[job]["kubernetes_sd_configs"]
        return dict(part.split("=") for part in discovery["selectors"][0]["label"].split(","))

    operator = of_kind(render(), "Deployment")[0]["spec"]["template"]["metadata"]["labels"]
    assert selector("phasewatt-operator").items() <= operator.items()
    for what in ("engine", "router"):
        assert selector(f"phasewatt-{what}s") == {
            "app.kubernetes.io/managed-by": "phasewatt",
            "app.kubernetes.io/name": f"phasewatt-{what}",
        }
