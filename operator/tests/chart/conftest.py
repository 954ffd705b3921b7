"""The real kubeconform, with schemas of the Kubernetes version that the testbed runs."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from helm_chart import REPO
from openapi_schemas import LOCATION, kubernetes_schemas, write_custom_schemas
from phasewatt_testbed import binaries

MONITORING = Path(__file__).parent / "fixtures" / "monitoring-crds.yaml"


@pytest.fixture(scope="session")
def kubeconform(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Validate YAML text strictly; returns what kubeconform found wrong, empty when nothing."""
    custom = tmp_path_factory.mktemp("schemas")
    write_custom_schemas([MONITORING, *sorted((REPO / "crds").glob("*.yaml"))], custom)
    locations = [f"{folder}/{LOCATION}" for folder in (kubernetes_schemas(), custom)]
    command = [str(binaries.ensure("kubeconform")), "-strict", "-summary"]
    command += [part for location in locations for part in ("-schema-location", location)]

    def findings(text: str) -> str:
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
        return (done.stdout + done.stderr) if done.returncode else ""

    return findings
