"""Install, upgrade and remove the chart with Helm, as a user does."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from phasewatt_testbed import binaries
from phasewatt_testbed.paths import REPO

from phasewatt_suite.cluster import Cluster

CHART = REPO / "charts" / "phasewatt"
NAMESPACE = "phasewatt-system"


class HelmError(RuntimeError):
    """Helm refused or failed; the message is what it printed."""


@dataclass(frozen=True)
class Release:
    """A Helm release of the chart."""

    cluster: Cluster
    name: str = "phasewatt"
    namespace: str = NAMESPACE

    def helm(self, *args: str) -> str:
        """Run helm against this release's cluster and namespace.

        Raises:
            HelmError: helm exited with an error.
        """
        env = {**os.environ, "KUBECONFIG": str(self.cluster.kubeconfig)}
        command = [str(binaries.ensure("helm")), *args, "-n", self.namespace]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            raise HelmError(f"helm {' '.join(args)}: {done.stderr.strip()}")
        return done.stdout

    def upgrade(self, chart: Path = CHART, **values: str) -> None:
        """Install or upgrade, and wait until the operator is available. In `values`, `__` stands for a dot."""
        settings = [
            part for key, value in values.items() for part in ("--set-json", f"{key.replace('__', '.')}={value}")
        ]
        self.helm(
            "upgrade", "--install", self.name, str(chart), "--create-namespace", "--wait", "--timeout", "2m", *settings
        )

    def uninstall(self) -> None:
        self.helm("uninstall", self.name, "--wait", "--timeout", "1m")

    def operator_pod(self) -> str:
        """Name of the one operator pod that is not being deleted."""
        pods = self.cluster.list("pods", self.namespace, "app.kubernetes.io/name=phasewatt")
        return next(p["metadata"]["name"] for p in pods if "deletionTimestamp" not in p["metadata"])


def install_operator(cluster: Cluster, engine_image: str) -> Release:
    """The chart at its defaults but for the engine's image, restarted so that a newly loaded image is what runs."""
    release = Release(cluster)
    release.upgrade(engine__image=f'"{engine_image}"')
    cluster.run("rollout", "restart", "deployment", "-n", NAMESPACE, "-l", "app.kubernetes.io/name=phasewatt")
    cluster.run(
        "rollout", "status", "deployment", "-n", NAMESPACE, "-l", "app.kubernetes.io/name=phasewatt", "--timeout=2m"
    )
    return release
