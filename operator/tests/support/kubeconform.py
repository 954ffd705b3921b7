"""The real kubeconform, with schemas of the Kubernetes version that the testbed runs and of all CRDs that we use."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from helm_chart import REPO
from openapi_schemas import LOCATION, kubernetes_schemas, write_custom_schemas
from phasewatt_testbed import binaries

MONITORING = Path(__file__).with_name("monitoring-crds.yaml")

_CUSTOM = TemporaryDirectory(prefix="phasewatt-schemas-")


def findings(text: str) -> str:
    """What kubeconform finds wrong with YAML text, read strictly; empty when nothing."""
    done = subprocess.run(_command(), input=text, capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr) if done.returncode else ""


@cache
def _command() -> tuple[str, ...]:
    custom = Path(_CUSTOM.name)
    write_custom_schemas([MONITORING, *sorted((REPO / "crds").glob("*.yaml"))], custom)
    locations = (f"{folder}/{LOCATION}" for folder in (kubernetes_schemas(), custom))
    options = (part for location in locations for part in ("-schema-location", location))
    return (str(binaries.ensure("kubeconform")), "-strict", "-summary", *options)
