"""Start, stop and read the load generator's pod."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phasewatt_suite.cluster import Cluster, until

SCRIPT = Path(__file__).with_name("loadgen.py")


@dataclass(frozen=True)
class Load:
    """A running load generator."""

    cluster: Cluster
    namespace: str
    pod: str

    def records(self) -> list[dict[str, Any]]:
        """All requests finished so far, oldest first: number, at (Unix s), status, seconds, error."""
        lines = self.cluster.run("logs", "-n", self.namespace, self.pod).splitlines()
        parsed = [json.loads(line) for line in lines if line.startswith("{")]
        return [record for record in parsed if "number" in record]

    def flowing(self, more_than: int, timeout: float = 60) -> int:
        """Wait until more than `more_than` requests succeeded; return how many."""

        def look() -> int | None:
            good = sum(not record["error"] for record in self.records())
            return good if good > more_than else None

        return until(f"more than {more_than} answered requests", look, timeout)

    def stop(self, timeout: float = 90) -> list[dict[str, Any]]:
        """Ask the clients to stop after their present request, wait for the end, and return all records."""
        self.cluster.run("exec", "-n", self.namespace, self.pod, "--", "sh", "-c", "kill -TERM 1")
        until(
            "the load generator to end",
            lambda: (
                (self.cluster.get("pod", self.pod, self.namespace) or {})["status"]["phase"] in ("Succeeded", "Failed")
            ),
            timeout,
        )
        return self.records()


def failures(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [record for record in records if record["error"]]


@contextmanager
def load(  # noqa: PLR0913 - a workload has this many sides
    cluster: Cluster,
    namespace: str,
    url: str,
    model: str,
    image: str,
    *,
    concurrency: int = 8,
    max_tokens: int = 32,
    prompt_words: int = 100,
    timeout: float = 60,
) -> Iterator[Load]:
    """Keep `concurrency` requests in flight against `url` from a pod in `namespace`; the pod is deleted at the end."""
    name = "loadgen"
    env = {
        "URL": url,
        "MODEL": model,
        "CONCURRENCY": concurrency,
        "MAX_TOKENS": max_tokens,
        "PROMPT_WORDS": prompt_words,
        "TIMEOUT": timeout,
        "PYTHONUNBUFFERED": 1,
    }
    config = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name},
        "data": {SCRIPT.name: SCRIPT.read_text()},
    }
    container = {
        "name": "loadgen",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", f"/loadgen/{SCRIPT.name}"],
        "env": [{"name": key, "value": str(value)} for key, value in env.items()],
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
        "volumeMounts": [{"name": "script", "mountPath": "/loadgen"}],
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "containers": [container],
            "volumes": [{"name": "script", "configMap": {"name": name}}],
        },
    }
    cluster.apply(config, pod, namespace=namespace)
    try:
        until(
            "the load generator to run",
            lambda: (cluster.get("pod", name, namespace) or {}).get("status", {}).get("phase") == "Running",
            60,
        )
        yield Load(cluster, namespace, name)
    finally:
        cluster.delete("pod", name, namespace)
        cluster.delete("configmap", name, namespace)
