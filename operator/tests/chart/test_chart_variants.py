"""Every variant of values renders to manifests that the API server's own schemas accept."""

from __future__ import annotations

from typing import Any

import pytest
from helm_chart import CHART, MONITORS, HelmError, helm, of_kind, render, render_text
from kubeconform import findings

VARIANTS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "listed-namespaces": {"watchNamespaces": ["team-a", "team-b"]},
    "monitors": {"metrics": {"serviceMonitor": {"enabled": True}, "podMonitor": {"enabled": True}}},
    "monitors-labelled-in-listed-namespaces": {
        "watchNamespaces": ["team-a"],
        "metrics": {
            "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}, "interval": "1m"},
            "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        },
    },
    "network-policies": {"networkPolicy": {"enabled": True, "namespaces": ["serving"]}},
    "network-policies-with-peers": {
        "watchNamespaces": ["team-a"],
        "networkPolicy": {
            "enabled": True,
            "scrapers": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
            "clients": [{"podSelector": {"matchLabels": {"app": "gateway"}}}],
            "apiServerPorts": [6443],
        },
    },
    "bring-your-own": {
        "crds": {"enabled": False},
        "rbac": {"create": False, "userRoles": False},
        "serviceAccount": {"create": False, "name": "mine"},
    },
    "placed": {
        "nodeSelector": {"node-role.kubernetes.io/infra": ""},
        "tolerations": [{"key": "infra", "operator": "Exists", "effect": "NoSchedule"}],
        "affinity": {
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [{"matchExpressions": [{"key": "gpu", "operator": "DoesNotExist"}]}]
                }
            }
        },
        "priorityClassName": "system-cluster-critical",
        "imagePullSecrets": [{"name": "registry"}],
        "podLabels": {"team": "serving"},
        "podAnnotations": {"example.com/note": "yes"},
        "extraArgs": ["--log-level=debug"],
        "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
        "serviceAccount": {"annotations": {"example.com/role": "arn"}},
        "fullnameOverride": "pw",
        "crds": {"keep": False},
    },
}


@pytest.mark.parametrize("values", VARIANTS.values(), ids=VARIANTS)
def test_is_valid(values: dict[str, Any]) -> None:
    assert not findings(render_text(values, MONITORS))


def test_kubeconform_would_see_a_misspelt_field() -> None:
    text = render_text().replace("terminationGracePeriodSeconds", "terminationGraceSeconds")
    assert "terminationGraceSeconds" in findings(text)


def test_lint_is_strict_and_silent() -> None:
    assert "1 chart(s) linted, 0 chart(s) failed" in helm("lint", "--strict", str(CHART))


def test_two_releases_share_only_the_crds() -> None:
    def names(release: str) -> set[tuple[str, str, str]]:
        values = {"crds": {"enabled": False}}
        return {
            (m["kind"], m["metadata"].get("namespace", ""), m["metadata"]["name"])
            for m in render(values, release=release)
        }

    assert not names("blue") & names("green")


def test_selectors_find_the_operators_pod_and_nothing_of_an_engine() -> None:
    manifests = render()
    deployment = of_kind(manifests, "Deployment")[0]
    pod = deployment["spec"]["template"]["metadata"]["labels"]
    selector = deployment["spec"]["selector"]["matchLabels"]
    assert selector.items() <= pod.items()
    assert of_kind(manifests, "Service")[0]["spec"]["selector"] == selector
    # Engines carry managed-by=phasewatt; the operator's own pod must not, or it would watch itself.
    assert pod["app.kubernetes.io/managed-by"] != "phasewatt"
    assert selector["app.kubernetes.io/name"] not in ("phasewatt-engine", "phasewatt-router")


def test_previous_chart_version_can_be_packaged(tmp_path: Any) -> None:
    helm("package", str(CHART), "--version", "0.0.9", "--destination", str(tmp_path))
    assert "version: 0.0.9" in helm("show", "chart", str(tmp_path / "phasewatt-0.0.9.tgz"))


@pytest.mark.parametrize("monitor", ["serviceMonitor", "podMonitor"])
def test_a_monitor_without_its_api_is_refused_in_words(monitor: str) -> None:
    with pytest.raises(HelmError, match=f"metrics.{monitor}.enabled is true, but this cluster serves no"):
        render({"metrics": {monitor: {"enabled": True}}})


def test_network_policies_of_engines_are_made_where_engines_are() -> None:
    values = {"watchNamespaces": ["a"], "networkPolicy": {"enabled": True, "namespaces": ["a", "b"]}}
    policies = {(p["metadata"]["namespace"], p["metadata"]["name"]) for p in of_kind(render(values), "NetworkPolicy")}
    engines = {(ns, f"phasewatt-{what}") for ns in ("a", "b") for what in ("engines", "routers")}
    assert policies == {("phasewatt-system", "phasewatt"), *engines}
