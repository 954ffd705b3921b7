"""A real Prometheus in the cluster, fed by the scrape configuration that the documentation gives."""

from __future__ import annotations

from dataclasses import dataclass

import httpx
import yaml
from phasewatt_testbed.paths import E2E, REPO

from phasewatt_suite.cluster import Cluster

MANIFEST = E2E / "images" / "prometheus" / "prometheus.yaml"
DOCUMENTED = REPO / "docs" / "prometheus-scrape.yaml"
NAMESPACE = "phasewatt-monitoring"


@dataclass(frozen=True)
class Prometheus:
    """A running Prometheus, asked through the API server's service proxy."""

    http: httpx.Client

    def query(self, expression: str) -> float | None:
        """The value of an instant query that gives one sample; None where it gives none.

        Source: Prometheus documentation, "HTTP API", instant queries.
        """
        path = f"/api/v1/namespaces/{NAMESPACE}/services/prometheus:9090/proxy/api/v1/query"
        answer = self.http.get(path, params={"query": expression})
        if answer.is_error:
            return None
        result = answer.json()["data"]["result"]
        return float(result[0]["value"][1]) if result else None


def scrape_configuration() -> str:
    """The documented configuration, word for word but for the interval: a test does not wait half a minute."""
    documented = yaml.safe_load(DOCUMENTED.read_text())
    jobs = [{**job, "scrape_interval": "2s", "scrape_timeout": "2s"} for job in documented["scrape_configs"]]
    return yaml.safe_dump({**documented, "scrape_configs": jobs})


def deploy(cluster: Cluster, http: httpx.Client) -> Prometheus:
    """Deploy it afresh and wait until it is available."""
    manifests = list(yaml.safe_load_all(MANIFEST.read_text()))
    for manifest in manifests:
        if manifest["kind"] == "ConfigMap":
            manifest["data"] = {"prometheus.yml": scrape_configuration()}
    cluster.apply(*manifests)
    cluster.run("rollout", "restart", "deployment/prometheus", "-n", NAMESPACE)
    cluster.run("rollout", "status", "deployment/prometheus", "-n", NAMESPACE, "--timeout=2m")
    return Prometheus(http)
