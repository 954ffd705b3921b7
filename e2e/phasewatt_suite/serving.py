"""Requests to a served model through the API server's service proxy: nothing of the host's network is assumed."""

from __future__ import annotations

import base64
import json
import ssl
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml
from prometheus_client.parser import text_string_to_metric_families

from phasewatt_suite.cluster import Cluster


def api_client(cluster: Cluster, timeout: float = 120) -> httpx.Client:
    """An HTTP client with the cluster-admin credentials of the kubeconfig; `base_url` is the API server."""
    config = yaml.safe_load(Path(cluster.kubeconfig).read_text())
    current = next(c["context"] for c in config["contexts"] if c["name"] == config["current-context"])
    server = next(c["cluster"] for c in config["clusters"] if c["name"] == current["cluster"])
    user = next(u["user"] for u in config["users"] if u["name"] == current["user"])
    authority = base64.b64decode(server["certificate-authority-data"]).decode()
    context = ssl.create_default_context(cadata=authority)
    headers = {}
    if "client-certificate-data" in user:
        _load_pair(context, user)
    if "token" in user:
        headers["Authorization"] = f"Bearer {user['token']}"
    return httpx.Client(base_url=server["server"], verify=context, headers=headers, timeout=timeout)


def _load_pair(context: ssl.SSLContext, user: dict[str, str]) -> None:
    # ssl reads a client certificate from files only.
    with tempfile.NamedTemporaryFile("wb", suffix=".pem") as pem:
        pem.write(base64.b64decode(user["client-certificate-data"]) + b"\n" + base64.b64decode(user["client-key-data"]))
        pem.flush()
        context.load_cert_chain(pem.name)


@dataclass(frozen=True)
class Served:
    """One object's endpoint. `port` is the Service's."""

    http: httpx.Client
    namespace: str
    name: str
    model: str
    port: int = 8000

    def path(self, suffix: str) -> str:
        return f"/api/v1/namespaces/{self.namespace}/services/{self.name}:{self.port}/proxy{suffix}"

    def complete(self, prompt: str, max_tokens: int = 16, **more: Any) -> dict[str, Any]:
        """One greedy completion, whole.

        Raises:
            httpx.HTTPStatusError: the endpoint answered with an error.
        """
        body = {"model": self.model, "prompt": prompt, "max_tokens": max_tokens, "temperature": 0, **more}
        answer = self.http.post(self.path("/v1/completions"), json=body)
        if answer.is_error:
            raise httpx.HTTPStatusError(answer.text, request=answer.request, response=answer)
        result: dict[str, Any] = answer.json()
        return result

    def text(self, prompt: str, max_tokens: int = 16, **more: Any) -> str:
        return str(self.complete(prompt, max_tokens, **more)["choices"][0]["text"])

    def stream(self, prompt: str, max_tokens: int = 16) -> Iterator[str]:
        """The pieces of text of a streamed greedy completion, as they arrive."""
        body = {"model": self.model, "prompt": prompt, "max_tokens": max_tokens, "temperature": 0, "stream": True}
        with self.http.stream("POST", self.path("/v1/completions"), json=body) as answer:
            answer.raise_for_status()
            for line in answer.iter_lines():
                data = line.removeprefix("data: ").strip()
                if line.startswith("data: ") and data != "[DONE]":
                    yield from (choice.get("text", "") for choice in json.loads(data)["choices"])


def pod_metrics(http: httpx.Client, namespace: str, pod: str, port: int) -> str:
    """The Prometheus text of one pod, through the API server's pod proxy."""
    answer = http.get(f"/api/v1/namespaces/{namespace}/pods/{pod}:{port}/proxy/metrics")
    answer.raise_for_status()
    return answer.text


def total(metrics: str, name: str, **labels: str) -> float:
    """The sum of one sample name over all its label sets that carry `labels`; 0 where there is none."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(metrics)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )
