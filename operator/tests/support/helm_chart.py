"""Render the chart with the real helm."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from phasewatt_testbed import binaries

REPO = Path(__file__).parents[3]
CHART = REPO / "charts" / "phasewatt"
NAMESPACE = "phasewatt-system"
MONITORS = ("monitoring.coreos.com/v1/ServiceMonitor", "monitoring.coreos.com/v1/PodMonitor")

Manifest = dict[str, Any]


class HelmError(Exception):
    """What helm printed when it refused."""


def helm(*args: str, stdin: str | None = None) -> str:
    """Run helm and return what it printed.

    Raises:
        HelmError: it exited with an error.
    """
    command = [str(binaries.ensure("helm")), *args]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise HelmError(done.stderr + done.stdout)
    return done.stdout


def render_text(values: Mapping[str, Any] | None = None, apis: Sequence[str] = (), release: str = "phasewatt") -> str:
    """`helm template` with these values: the text that would reach a cluster that also serves `apis`."""
    served = [part for api in apis for part in ("--api-versions", api)]
    return helm(
        "template", release, str(CHART), "-n", NAMESPACE, "-f", "-", *served, stdin=json.dumps(dict(values or {}))
    )


def render(
    values: Mapping[str, Any] | None = None, apis: Sequence[str] = (), release: str = "phasewatt"
) -> list[Manifest]:
    """The same as manifests."""
    return [m for m in yaml.safe_load_all(render_text(values, apis, release)) if m]


def of_kind(manifests: Sequence[Manifest], kind: str) -> list[Manifest]:
    return [m for m in manifests if m["kind"] == kind]
